"""Decoders in plain torch, for torch's FLOP counter: written from their papers, not from `predict.model`.

They live on the meta device: shapes without numbers. Attention is eager and multiplies the full square. Norms, masks,
positions and rotations are left out: none of them multiplies matrices.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


class GroupedAttention(nn.Module):
    """Vaswani et al. 2017; keys and values shared by groups of heads as in Ainslie et al. 2023."""

    def __init__(self, hidden: int, heads: int, kv_heads: int, bias: bool = False):
        super().__init__()
        head_dim = hidden // heads
        self.heads, self.kv_heads = heads, kv_heads
        self.q = nn.Linear(hidden, heads * head_dim, bias=bias)
        self.k = nn.Linear(hidden, kv_heads * head_dim, bias=bias)
        self.v = nn.Linear(hidden, kv_heads * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, hidden, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.heads // self.kv_heads
        k = by_head(self.k(x), self.kv_heads).repeat_interleave(shared, dim=1)
        v = by_head(self.v(x), self.kv_heads).repeat_interleave(shared, dim=1)
        return self.out(attend(by_head(self.q(x), self.heads), k, v))


class LatentAttention(nn.Module):
    """DeepSeek-V2 (2024), section 2.1, in its training form: keys and values are expanded from the latent."""

    def __init__(self, hidden: int, heads: int, query_rank: int, kv_rank: int, nope: int, rope: int, value: int):
        super().__init__()
        self.heads, self.rope, self.nope, self.value, self.kv_rank = heads, rope, nope, value, kv_rank
        self.q_down = nn.Linear(hidden, query_rank, bias=False)
        self.q_up = nn.Linear(query_rank, heads * (nope + rope), bias=False)
        self.kv_down = nn.Linear(hidden, kv_rank, bias=False)
        self.k_rope = nn.Linear(hidden, rope, bias=False)
        self.k_up = nn.Linear(kv_rank, heads * nope, bias=False)
        self.v_up = nn.Linear(kv_rank, heads * value, bias=False)
        self.out = nn.Linear(heads * value, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        latent = self.kv_down(x)
        rotary = by_head(self.k_rope(x), 1).expand(-1, self.heads, -1, -1)  # one rotary key for all heads
        k = torch.cat([by_head(self.k_up(latent), self.heads), rotary], dim=-1)
        q = by_head(self.q_up(self.q_down(x)), self.heads)
        return self.out(attend(q, k, by_head(self.v_up(latent), self.heads)))


class PlainMlp(nn.Module):
    """Up, GELU, down."""

    def __init__(self, hidden: int, intermediate: int):
        super().__init__()
        self.up = nn.Linear(hidden, intermediate)
        self.down = nn.Linear(intermediate, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.gelu(self.up(x)))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, hidden: int, intermediate: int):
        super().__init__()
        self.gate = nn.Linear(hidden, intermediate, bias=False)
        self.up = nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Mixture(nn.Module):
    """A router and experts (Shazeer et al. 2017). Who goes where changes no count, so tokens are dealt out in order:
    each expert gets tokens * active / experts of them, which must be whole."""

    def __init__(self, hidden: int, intermediate: int, experts: int, active: int, shared: int = 0):
        super().__init__()
        self.active = active
        self.router = nn.Linear(hidden, experts, bias=False)
        self.gate = nn.Parameter(torch.empty(experts, hidden, intermediate))
        self.up = nn.Parameter(torch.empty(experts, hidden, intermediate))
        self.down = nn.Parameter(torch.empty(experts, intermediate, hidden))
        self.shared = GatedMlp(hidden, shared) if shared else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(0, 1)
        chosen = self.router(tokens).softmax(-1)[:, : self.active]
        dealt = tokens.repeat_interleave(self.active, dim=0).unflatten(0, (len(self.gate), -1))
        made = torch.bmm(functional.silu(torch.bmm(dealt, self.gate)) * torch.bmm(dealt, self.up), self.down)
        mixed = (made.flatten(0, 1).unflatten(0, (-1, self.active)) * chosen.unsqueeze(-1)).sum(1)
        return mixed.view_as(x) + (self.shared(x) if self.shared else 0)


class Decoder(nn.Module):
    """Embedding, residual layers and the output head, which `tied` shares with the embedding."""

    def __init__(self, vocab: int, hidden: int, layers: list[tuple[nn.Module, nn.Module]], tied: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(nn.ModuleList(layer) for layer in layers)
        self.head = nn.Linear(hidden, vocab, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for attention, mlp in self.layers:
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x)


def by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)


def gpt_2_small(layers: int) -> Decoder:
    return Decoder(
        50257, 768, [(GroupedAttention(768, 12, 12, bias=True), PlainMlp(768, 3072)) for _ in range(layers)], tied=True
    )


def llama_3_8b(layers: int) -> Decoder:
    return Decoder(128256, 4096, [(GroupedAttention(4096, 32, 8), GatedMlp(4096, 14336)) for _ in range(layers)])


def mixtral_8x7b(layers: int) -> Decoder:
    return Decoder(32000, 4096, [(GroupedAttention(4096, 32, 8), Mixture(4096, 14336, 8, 2)) for _ in range(layers)])


def deepseek_v3(layers: int) -> Decoder:
    """Three dense layers, then experts."""
    return Decoder(
        129280,
        7168,
        [
            (
                LatentAttention(7168, 128, 1536, 512, 128, 64, 128),
                GatedMlp(7168, 18432) if i < 3 else Mixture(7168, 2048, 256, 8, shared=2048),
            )
            for i in range(layers)
        ],
    )


def count_flop(model: nn.Module, batch: int, seq: int, *, backward: bool) -> int:
    """FLOP of one pass as torch counts them at dispatch, with the backward pass where asked."""
    tokens = torch.zeros(batch, seq, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits = model(tokens)
        if backward:
            logits.sum().backward()
    return counter.get_total_flops()

"""What a layer keeps for its backward pass: derived by hand, and as torch's autograd saves it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from predict.errors import BadModel, BadQuantity
from predict.formulas.memory import Recompute
from predict.model.activations import activation_bytes, kept, layer_bytes
from predict.model.attention import Attention, Indexer, LatentAttention
from predict.model.config.reader import from_config
from predict.model.elementwise import LAYER, RMS_FP32, Elementwise
from predict.model.kept import Kernels
from predict.model.linear_attention import GatedDeltaNet
from predict.model.mlp import Experts, Mlp
from predict.model.presets import find_model
from predict.model.reach import TopK
from predict.model.short_conv import GatedConv
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba, Mamba2
from predict.model.transformer import Block

LLAMA_3_8B = find_model("llama-3-8b")
GPT2 = find_model("gpt2").blocks[0]


def bytes_per_unit(name, *, kernels=Kernels.EAGER, recompute=Recompute.SELECTIVE):
    """Bytes per token and unit of the hidden width, the mean of all layers."""
    model = find_model(name)
    total = activation_bytes(model, 1, 8192, recompute=recompute, kernels=kernels)
    return total / (model.layers * 8192 * model.hidden)


@pytest.mark.parametrize(
    ("name", "eager", "fused"),
    [
        # H = 4096, Q and out H wide, K and V H/4, MLP 3.5 H. Two norms keep 6 each, the inputs of attention and MLP
        # 2 each, Q, K, V and out 2 + 0.5 + 0.5 + 2, the MLP 4 tensors of 7: 12 + 4 + 5 + 28 = 49, and 4 bytes of
        # log-sum-exp for each of 32 heads, 0.03. Fused: two norms keep 2 each, the MLP 3 tensors: 4 + 4 + 5 + 21.
        ("llama-3-8b", 49.03, 34.03),
        # Q 1.6 H, K and V 0.2 H, MLP 5 H; the norms of Q and K keep 6 * 1.8:
        # 12 + 4 + 10.8 + 7.2 + 40 = 74. Fused: 4 + 4 + 3.6 + 7.2 + 30 = 48.8.
        ("qwen3-32b", 74.1, 48.9),
        # Q 2 H, K and V H/4; 8 experts of 3/8 H, each with 3 copies of the token:
        # 12 + 4 + 13.5 + 9 + 8 * (3 * 2 + 4 * 0.75) = 110.5, the router 4 * 128/2048 = 0.25.
        # Fused: 4 + 4 + 4.5 + 9 + 8 * (2 * 2 + 3 * 0.75) = 71.5.
        ("qwen3-30b-a3b", 110.9, 71.9),
    ],
)
def test_a_layer_keeps_what_its_matrices_say(name, eager, fused):
    assert bytes_per_unit(name) == pytest.approx(eager, abs=0.06)
    assert bytes_per_unit(name, kernels=Kernels.FUSED) == pytest.approx(fused, abs=0.06)


def test_gpt2_keeps_50_34_mb_with_its_scores_and_25_22_mb_without():
    # 32sbh + 2as^2b + 8sb and 32sbh + 4asb + 8sb, s = 1024, h = 768, a = 12.
    assert layer_bytes(GPT2, 1, 1024, recompute=Recompute.NONE) == 50_339_840
    assert layer_bytes(GPT2, 1, 1024, recompute=Recompute.FLASH) == 25_223_168


def test_recomputing_every_second_matrix_keeps_15_5_bytes_of_llama_3_8b():
    # The input 2, Q 2, V 0.5, attention's output 2, the gate 7, the down matrix 2; 32 * 4 bytes of log-sum-exp.
    per_token = layer_bytes(LLAMA_3_8B.blocks[0], 1, 1, recompute=Recompute.OPS)
    assert per_token == 15.5 * 4096 + 32 * 4


def test_full_recomputation_keeps_the_input():
    assert bytes_per_unit("qwen3-30b-a3b", recompute=Recompute.FULL) == 2


def test_scores_that_are_cast_from_fp32_are_kept_twice():
    # 32 heads, each token against 8192: 4 + 2 bytes.
    block = LLAMA_3_8B.blocks[0]
    with_scores = layer_bytes(block, 1, 8192, recompute=Recompute.NONE)
    log_sum_exp = 8192 * 32 * 4
    without = layer_bytes(block, 1, 8192, recompute=Recompute.SELECTIVE) - log_sum_exp
    assert with_scores - without == 6 * 32 * 8192 * 8192


def test_gpus_divide_everything_with_sequence_parallelism_and_without_it_only_what_is_split():
    # Of 49 per unit, the norms' 12 and the inputs' 4 are whole without it; 4 bytes of statistics per norm too.
    block = LLAMA_3_8B.blocks[0]
    alone = layer_bytes(block, 1, 1, recompute=Recompute.FLASH)
    assert alone == 49 * 4096 + 32 * 4 + 8
    whole = 16 * 4096 + 8
    options = {"recompute": Recompute.FLASH, "tensor_parallel": 8}
    assert layer_bytes(block, 1, 1, **options) == alone / 8
    assert layer_bytes(block, 1, 1, **options, sequence_parallel=False) == whole + (alone - whole) / 8


def test_attention_and_mlp_in_parallel_share_their_input():
    shape = (1, 64, Attention(4, 4, 16), Mlp(256, gated=False), 128)
    serial, parallel = (Block(*shape, elementwise=Elementwise(LAYER, parallel=each)) for each in (False, True))
    one, other = (layer_bytes(block, 1, 1, recompute=Recompute.FLASH) for block in (serial, parallel))
    assert one - other == 2 * 64


def test_a_count_that_is_no_whole_number_is_refused():
    with pytest.raises(BadQuantity, match="batch"):
        layer_bytes(GPT2, 0, 8, recompute=Recompute.NONE)
    with pytest.raises(BadQuantity, match="seq"):
        kept(GPT2, 0, recompute=Recompute.NONE)


# Against autograd


def saved_bytes(run: Callable[[], torch.Tensor], parameters: list[nn.Parameter]) -> int:
    """Bytes that torch saves while `run` computes; every storage counts once, parameters do not."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    saved = {}  # storage by address; holding it keeps the address from being used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(storage.nbytes() for storage in saved.values())


class Rms(nn.Module):
    """Llama's RMSNorm, op by op; `wide` multiplies by the weight in fp32, as Gemma's."""

    def __init__(self, width: int, *, wide: bool = False):
        super().__init__()
        self.weight, self.wide = nn.Parameter(torch.ones(width)), wide

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., width]."""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (normed * self.weight.float()).to(x.dtype) if self.wide else self.weight * normed.to(x.dtype)


class Gated(nn.Module):
    """A gated MLP, op by op."""

    def __init__(self, hidden: int, intermediate: int):
        super().__init__()
        self.gate, self.up = (nn.Linear(hidden, intermediate, bias=False) for _ in range(2))
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., hidden]."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Mixture(nn.Module):
    """A router, and a loop over experts."""

    def __init__(self, hidden: int, experts: Experts):
        super().__init__()
        self.router, self.active = nn.Linear(hidden, experts.copies, bias=False), experts.active
        self.experts = nn.ModuleList(Gated(hidden, experts.intermediate) for _ in range(experts.copies))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [batch, seq, hidden]."""
        tokens = x.view(-1, x.shape[-1])
        weights, chosen = functional.softmax(self.router(tokens), dim=-1, dtype=torch.float).topk(self.active)
        weights, result = weights.to(x.dtype), torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            if token.numel():
                result.index_add_(0, token, expert(tokens[token]) * weights[token, place, None])
        return result.view_as(x)


class Layer(nn.Module):
    """A layer of a block: rotation of Q and K, grouped heads, SDPA."""

    def __init__(self, block: Block, *, wide: bool):
        super().__init__()
        attention, hidden = block.mixer, block.hidden
        assert isinstance(attention, Attention)
        self.attention, dim = attention, attention.head_dim
        self.norms = nn.ModuleList(Rms(hidden, wide=wide) for _ in range(2))
        self.q = nn.Linear(hidden, attention.heads * dim, bias=attention.qkv_bias)
        self.k, self.v = (nn.Linear(hidden, attention.kv_heads * dim, bias=attention.qkv_bias) for _ in range(2))
        self.out = nn.Linear(attention.heads * dim, hidden, bias=False)
        self.qk = nn.ModuleList(Rms(dim, wide=wide) if attention.qk_norm else nn.Identity() for _ in range(2))
        width = block.mlp.intermediate
        self.mlp = Mixture(hidden, block.mlp) if isinstance(block.mlp, Experts) else Gated(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [batch, seq, hidden]."""
        normed = self.norms[0](x)
        shape = (*normed.shape[:2], -1, self.attention.head_dim)
        q, k = (part(normed).view(shape) for part in (self.q, self.k))
        q, k = self.qk[0](q).transpose(1, 2), self.qk[1](k).transpose(1, 2)
        v = self.v(normed).view(shape).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(*shape[:2], -1))
        return x + self.mlp(self.norms[1](x))


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x * cos + half * sin with constants, which autograd does not keep."""
    return x * 0.8 + torch.cat((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), -1) * 0.6


@pytest.mark.parametrize(
    ("attention", "mlp", "wide"),
    [
        pytest.param(Attention(4, 1, 32), Mlp(384, gated=True), False, id="gqa"),
        pytest.param(Attention(4, 4, 32, qkv_bias=True), Mlp(512, gated=True), False, id="mha with biases"),
        pytest.param(Attention(8, 2, 32, qk_norm=True), Mlp(640, gated=True), False, id="norms on Q and K"),
        pytest.param(Attention(4, 2, 32, qk_norm=True), Mlp(512, gated=True), True, id="norms in fp32"),
        pytest.param(Attention(8, 1, 32, qk_norm=True), Experts(16, 4, 48), False, id="experts"),
    ],
)
def test_a_layer_keeps_what_autograd_saves(attention, mlp, wide):
    torch.manual_seed(0)
    hidden, batch, seq = 128, 2, 64
    elementwise = Elementwise(RMS_FP32) if wide else Elementwise()
    block = Block(1, hidden, attention, mlp, norm_params=2 * hidden, elementwise=elementwise)
    layer = Layer(block, wide=wide).to(torch.bfloat16)
    x = torch.randn(batch, seq, hidden, dtype=torch.bfloat16, requires_grad=True)
    measured = saved_bytes(lambda: layer(x), list(layer.parameters()))
    found = layer_bytes(block, batch, seq, recompute=Recompute.FLASH)
    if isinstance(mlp, Experts):  # places and weights of a token's experts: up to 50 bytes each
        assert found < measured < found + batch * seq * 50 * mlp.active
    else:  # norms in fp32 keep their weights in fp32 too, whatever the batch
        assert measured == found + (4 * (2 * hidden + 2 * attention.head_dim) if wide else 0)


def test_latent_attention_keeps_what_its_parts_say():
    # Two latents of 128 and 64, each normed (6) and multiplied (2): 8 * 192, and 4 bytes of statistics each. Q and K
    # of 4 * 48, V as part of the expansion 4 * 64, the output 4 * 32, in 2 bytes. 4 bytes of log-sum-exp for 4 heads.
    attention = LatentAttention(heads=4, query_rank=128, kv_rank=64, nope_dim=32, rope_dim=16, value_dim=32)
    block = Block(1, 512, attention, Mlp(1024, gated=True), norm_params=1024)
    per_token = layer_bytes(block, 1, 1, recompute=Recompute.FLASH)
    latents, attended = 8 * 192 + 2 * 4, 2 * (2 * 192 + 256 + 128)
    rest = 2 * (6 * 512 + 4) + 2 * 2 * 512 + 4 * 2 * 1024
    assert per_token == latents + attended + 4 * 4 + rest


# Kinds of layers


def kept_of(mixer, mlp=None, *, hidden=512, norms=1, kernels=Kernels.FUSED):
    """Bytes of a token by what they are."""
    block = Block(1, hidden, mixer, mlp, norm_params=norms * hidden)
    return {each.what: each.bytes for each in kept(block, 64, recompute=Recompute.FLASH, kernels=kernels)}


def test_a_gate_on_attention_keeps_itself_and_the_product():
    # 4 heads of 128: 2 bytes of the gate's sigmoid and of the product; op by op of attention's output as well.
    plain, gated = (kept_of(Attention(4, 2, 128, gated=gated), kernels=Kernels.EAGER) for gated in (False, True))
    assert sum(gated.values()) - sum(plain.values()) == 3 * 2 * 512
    assert kept_of(Attention(4, 2, 128, gated=True))["attention's gate"] == 2 * 2 * 512


def test_a_layer_that_reads_anothers_cache_keeps_no_keys_and_values():
    assert kept_of(Attention(4, 2, 128, shares_cache=True))["Q, K, V and attention's output"] == 2 * (512 + 512)
    assert kept_of(Attention(4, 2, 128))["Q, K, V and attention's output"] == 2 * (512 + 256 + 256 + 512)


def test_an_indexer_keeps_its_queries_and_its_key():
    latent = LatentAttention(4, 128, 64, 32, 16, 32, reach=TopK(16), indexer=Indexer(8, 64))
    assert kept_of(latent)["the indexer's Q and K"] == 2 * (8 * 64 + 64)


def test_a_gated_delta_net_keeps_what_the_kernel_of_flash_linear_attention_saves():
    # 2 key heads of 64, 4 value heads of 32: the convolution's 2 * 128 + 128 channels; Q and K for 4 heads of 64; V,
    # the recurrence's output, z and the product, 128 wide each; per head 64 of the chunk and a strength in 16 bits, a
    # decay and three statistics in fp32.
    found = kept_of(GatedDeltaNet(2, 4, 64, 32, 4))
    assert found["input of the convolution"] == 2 * 384
    assert found["Q and K of each value head"] == 2 * 2 * 4 * 64
    assert found["values, outputs, gate and product"] == 4 * 2 * 128
    assert found["decays, strengths, chunks, statistics"] == 4 * (2 * 65 + 4 * 4)
    # And a norm of 512 with its statistic, and the input.
    assert sum(found.values()) == 768 + 1024 + 1024 + 584 + (2 * 512 + 4) + 2 * 512


def test_mamba_2_keeps_what_its_fused_kernel_saves():
    # 8 heads of 64, a group of 2 * 16: the first matrix makes 512 + 512 + 32 + 8; the scan 512.
    found = kept_of(Mamba2(8, 64, 1, 16, 4))
    assert found["output of the first matrix"] == 2 * (512 + 512 + 32 + 8)
    assert found["output of the scan"] == 2 * 512 + 4


def test_mamba_keeps_what_its_fused_kernel_saves():
    # 512 channels: x, its gate and the scan's output; a latent of 32 beside 2 * 16, and these 2 * 16 again.
    found = kept_of(Mamba(512, 16, 32, 4))
    assert found["input, projections and output of the scan"] == 2 * (3 * 512 + 32 + 2 * 16 + 2 * 16)


def test_a_gated_convolution_keeps_six_tensors():
    # Measured on one layer of transformers' LFM2: 12 bytes a channel beside the input.
    assert kept_of(GatedConv(512, 3))["gates, convolution and product"] == 12 * 512


def test_mixers_side_by_side_share_their_input():
    attention, mamba = Attention(4, 2, 128), Mamba2(8, 64, 1, 16, 4)
    together, *alone = (sum(kept_of(mixer).values()) for mixer in (SideBySide((attention, mamba)), attention, mamba))
    assert together == sum(alone) - kept_of(mamba)["1 norm"] - kept_of(mamba)["input of the mixer"]


def test_a_layer_without_a_mixer_or_an_mlp_keeps_one_input():
    alone = kept_of(None, Mlp(1024, gated=False))
    assert alone == {"1 norm": 2 * 512 + 4, "input of the MLP": 1024, "inside the MLP": 2 * 2 * 1024}
    assert "input of the MLP" not in kept_of(Mamba2(8, 64, 1, 16, 4))


def test_experts_in_a_latent_copy_the_latent_and_a_gated_shared_expert_keeps_its_result():
    experts = Experts(8, 2, 128, shared=Mlp(256, gated=False), gated=False, shared_gate=True, latent=64)
    found = kept_of(None, experts)
    assert found["copies for experts"] == 2 * 2 * 2 * 64
    assert found["latents of the token and of the result"] == 2 * 2 * 64
    assert found["inside the experts"] == 2 * 2 * 2 * 128 + 2 * 2 * 256
    assert found["result of the shared expert"] == 2 * 512


def test_a_kind_whose_kernels_are_not_known_is_refused():
    class Unknown(Attention.__mro__[1]):
        text = "a new kind"
        shards = other_params = 0
        holds = ()

        def linears(self, hidden):
            yield from ()

        def mixing(self, new, cached, *, square):
            yield from ()

    with pytest.raises(BadModel, match="what a layer of a new kind keeps"):
        kept_of(Unknown())


# Against transformers

SMALL = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 128}
DENSE = {**SMALL, "intermediate_size": 768}
ROUTED = {**SMALL, "intermediate_size": 768, "moe_intermediate_size": 96, "num_experts_per_tok": 4}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "opt", **SMALL, "ffn_dim": 1024, "max_position_embeddings": 128, "dropout": 0,
         "word_embed_proj_dim": 256},
        {"model_type": "llama", **DENSE},
        {"model_type": "qwen3", **DENSE},
        {"model_type": "gemma", **DENSE},
        {"model_type": "olmo2", **DENSE},
        {"model_type": "starcoder2", **DENSE, "residual_dropout": 0, "embedding_dropout": 0},
        {"model_type": "cohere2", **DENSE, "layer_types": ["full_attention"] * 2},
        {"model_type": "qwen3_moe", **ROUTED, "num_experts": 16},
        {"model_type": "qwen2_moe", **ROUTED, "num_experts": 16, "shared_expert_intermediate_size": 192},
    ],
    ids=lambda config: config["model_type"],
)  # fmt: skip
def test_a_layer_keeps_what_autograd_saves_of_transformers(config):
    transformers = pytest.importorskip("transformers")
    config, seq = {"max_position_embeddings": 128, **config}, 64
    measured = []
    for layers in (1, 2):
        shape = {**config, "num_hidden_layers": layers}
        if types := shape.pop("layer_types", None):
            shape["layer_types"] = types[:layers]
        settings = transformers.AutoConfig.for_model(**shape)
        options = {"experts_implementation": "eager"} if "num_experts_per_tok" in config else {}
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16, **options).train()
        tokens = torch.arange(seq)[None]
        own = [*model.parameters(), *model.buffers()]
        measured.append(saved_bytes(lambda model=model, tokens=tokens: model(tokens, use_cache=False).logits, own))
    block = from_config({**config, "num_hidden_layers": 2}, config["model_type"]).blocks[0]
    found = layer_bytes(block, 1, seq, recompute=Recompute.FLASH)
    assert found == pytest.approx(measured[1] - measured[0], rel=0.01)

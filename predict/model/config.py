"""Hugging Face `config.json` -> Model. Nothing is downloaded.

Field names and rules are those of the `transformers` library, with one difference: `transformers` fills a missing width
or depth from another model of the family, while this reader raises an error that names the field. The exception is
Gemma 3, whose published files leave such fields out.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.transformer import Attention, Block, Experts, LatentAttention, Mlp, Model

MAX_CONFIG_BYTES = 10_000_000  # a config.json has a few kilobytes; a file of weights has gigabytes
MAX_LAYERS, MAX_SIZE = 10_000, 10**12
GEMMA_3_DEFAULTS = MappingProxyType(
    {"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072}
)


@dataclass(frozen=True, slots=True)
class Fields:
    """Reads the fields of one configuration and checks them."""

    values: Mapping[str, object]
    origin: str  # names the file in messages
    name: str  # of the model
    architecture: str  # its `model_type`

    def size(self, name: str, default: int | None = None) -> int:
        """A positive whole number; `default` if null or absent. Raises BadModel naming the field."""
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise BadModel(f"{self.origin}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadModel(f"{self.origin}: {name} must be a positive whole number, not {value!r}")
        if value > MAX_SIZE:
            raise BadModel(f"{self.origin}: {name} is over {MAX_SIZE:.0e}, more than any model has")
        return value

    def size_or_none(self, name: str) -> int | None:
        """A positive whole number, or None if null or absent."""
        return None if self.values.get(name) is None else self.size(name)

    def count(self, name: str) -> int:
        """A whole number that may be 0. Raises BadModel naming the field."""
        value = self.values.get(name)
        return 0 if type(value) is int and value == 0 else self.size(name)

    def layers(self, name: str) -> int:
        """A number of layers. Raises BadModel above MAX_LAYERS."""
        if (layers := self.size(name)) > MAX_LAYERS:
            raise BadModel(f"{self.origin}: {name}={layers} is more than the {MAX_LAYERS} layers that are supported")
        return layers

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; `default` if null or absent. Raises BadModel naming the field."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadModel(f"{self.origin}: {name} must be true or false, not {value!r}")
        return value

    def items(self, name: str) -> list[object]:
        """A list; empty if null or absent. Raises BadModel naming the field."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise BadModel(f"{self.origin}: {name} must be a list, not {value!r}")
        return value

    def divided(self, name: str, by: str, default_by: int | None = None) -> int:
        """`name` divided by `by`. Raises BadModel if there is a remainder."""
        size, parts = self.size(name), self.size(by, default_by)
        if size % parts:
            raise BadModel(f"{self.origin}: {name}={size} is not a multiple of {by}={parts}")
        return size // parts


def read_config(path: Path) -> Model:
    """Read a config.json. Raises BadModel naming the file, and the field if one is wrong."""
    try:
        if path.is_dir():
            raise BadModel(f"{path} is a folder; give the config.json in it")
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise BadModel(f"{path} has more than {MAX_CONFIG_BYTES} bytes, too many for a config.json")
        config = json.loads(text)
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise BadModel(f"{path} is not valid JSON (line {error.lineno}: {error.msg}); is the file complete?") from None
    except (ValueError, RecursionError):  # not text, a number with thousands of digits, or very deep brackets
        raise BadModel(f"{path} is not a readable JSON file") from None
    if not isinstance(config, dict):
        raise BadModel(f"{path} holds no JSON object")
    named = config.get("_name_or_path")
    return from_config(config, named if isinstance(named, str) and named else path.stem, origin=str(path))


def from_config(config: Mapping[str, object], name: str, origin: str | None = None) -> Model:
    """Build the model that a configuration describes. `origin` names the configuration in messages.

    Raises BadModel for an unknown `model_type` and for a field that is missing, has the wrong type or does not divide.
    """
    origin, architecture = origin or name, config.get("model_type")
    if architecture is None:
        raise BadModel(f"{origin}: model_type is missing; known: {', '.join(READERS)}")
    if architecture == "gemma3" and isinstance(text := config.get("text_config"), dict):
        return from_config({**text, "model_type": "gemma3_text"}, name, f"{origin} (text_config)")
    if not isinstance(architecture, str) or architecture not in READERS:
        raise BadModel(f"{origin}: unknown model_type {architecture!r}; known: {', '.join(READERS)}")
    return READERS[architecture](Fields(config, origin, name, architecture))


def _gpt2(fields: Fields) -> Model:
    hidden = fields.size("n_embd")
    positions = fields.size("n_positions")
    block = Block(
        layers=fields.layers("n_layer"),
        hidden=hidden,
        attention=_mha(fields, "n_embd", "n_head", bias=True),
        mlp=Mlp(fields.size("n_inner", 4 * hidden), gated=False, bias=True),
        norm_params=4 * hidden,  # two LayerNorms, weight and bias
    )
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        (block,),
        tied=fields.flag("tie_word_embeddings", default=True),
        final_norm_params=2 * hidden,
        context_limit=positions,
        position_params=positions * hidden,
    )


def _opt(fields: Fields) -> Model:
    hidden = fields.size("hidden_size")
    positions = fields.size("max_position_embeddings")
    bias = fields.flag("enable_bias", default=True)
    norm = 2 * hidden if fields.flag("layer_norm_elementwise_affine", default=True) else 0
    final_norm = fields.flag("do_layer_norm_before", default=True) and not fields.flag(
        "_remove_final_layer_norm", default=False
    )
    block = Block(
        layers=fields.layers("num_hidden_layers"),
        hidden=hidden,
        attention=_mha(fields, "hidden_size", "num_attention_heads", bias=bias),
        mlp=Mlp(fields.size("ffn_dim"), gated=False, bias=bias),
        norm_params=2 * norm,
    )
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        (block,),
        tied=fields.flag("tie_word_embeddings", default=True),
        final_norm_params=norm if final_norm else 0,
        context_limit=positions,
        position_params=(positions + 2) * hidden,  # OPT's table starts at position 2
        embedding_dim=fields.size("word_embed_proj_dim", hidden),
    )


def _llama(fields: Fields) -> Model:
    bias = fields.flag("attention_bias", default=False)
    attention = _attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    return _rms_model(fields, attention, itertools.repeat(mlp))


def _mistral(fields: Fields) -> Model:
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    window = fields.size_or_none("sliding_window") if "sliding_window" in fields.values else 4096
    return _rms_model(fields, _attention(fields), itertools.repeat(mlp), itertools.repeat(window))


def _mixtral(fields: Fields) -> Model:
    experts = _experts(fields, "num_local_experts", fields.size("intermediate_size"))
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    return _rms_model(fields, _attention(fields), itertools.repeat(experts), windows)


def _qwen2(fields: Fields) -> Model:
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    attention = _attention(fields, qkv_bias=True)
    return _rms_model(fields, attention, itertools.repeat(mlp), _qwen_windows(fields))


def _qwen3(fields: Fields) -> Model:
    bias = fields.flag("attention_bias", default=False)
    attention = _attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True, head_dim_default=128)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return _rms_model(fields, attention, itertools.repeat(mlp), _qwen_windows(fields))


def _qwen3_moe(fields: Fields) -> Model:
    bias = fields.flag("attention_bias", default=False)
    attention = _attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)
    dense = Mlp(fields.size("intermediate_size"), gated=True)
    experts = _experts(fields, "num_experts", fields.size("moe_intermediate_size"))
    only_dense, step = fields.items("mlp_only_layers"), fields.size("decoder_sparse_step", 1)
    mlps = (dense if i in only_dense or (i + 1) % step else experts for i in range(fields.layers("num_hidden_layers")))
    windows = itertools.repeat(
        fields.size_or_none("sliding_window") if fields.flag("use_sliding_window", default=False) else None
    )
    return _rms_model(fields, attention, mlps, windows)


def _gemma(fields: Fields) -> Model:
    generation = {"gemma": 1, "gemma2": 2, "gemma3_text": 3}[fields.architecture]
    if generation == 3:
        fields = replace(fields, values={**GEMMA_3_DEFAULTS, **fields.values})
    bias = fields.flag("attention_bias", default=False)
    attention = _attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=generation == 3, head_dim_default=256)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    windows: Iterator[int | None] = itertools.repeat(None)
    if generation > 1:
        period = 2 if generation == 2 else fields.size("sliding_window_pattern", 6)  # every period-th sees all
        window = fields.size("sliding_window", 4096)
        windows = (window if (i + 1) % period else None for i in itertools.count())
    norms = 2 if generation == 1 else 4
    return _rms_model(fields, attention, itertools.repeat(mlp), windows, norms=norms, tied=True)


def _deepseek(fields: Fields) -> Model:
    if "q_lora_rank" not in fields.values:
        raise BadModel(f"{fields.origin}: q_lora_rank is missing (use null if Q is projected directly)")
    attention = LatentAttention(
        heads=fields.size("num_attention_heads"),
        query_rank=fields.size_or_none("q_lora_rank"),
        kv_rank=fields.size("kv_lora_rank"),
        nope_dim=fields.size("qk_nope_head_dim"),
        rope_dim=fields.size("qk_rope_head_dim"),
        value_dim=fields.size("v_head_dim"),
        bias=fields.flag("attention_bias", default=False),
    )
    bias = fields.architecture == "deepseek_v2" and fields.flag("mlp_bias", default=False)
    dense = Mlp(fields.size("intermediate_size"), gated=True, bias=bias)
    width, shared = fields.size("moe_intermediate_size"), fields.count("n_shared_experts")
    together = Mlp(shared * width, gated=True, bias=bias) if shared else None
    experts = _experts(fields, "n_routed_experts", width, together)
    first = fields.count("first_k_dense_replace")
    mlps = (dense if i < first else experts for i in itertools.count())
    return _rms_model(fields, attention, mlps)


READERS: Mapping[str, Callable[[Fields], Model]] = MappingProxyType(
    {
        "gpt2": _gpt2,
        "opt": _opt,
        "llama": _llama,
        "mistral": _mistral,
        "mixtral": _mixtral,
        "qwen2": _qwen2,
        "qwen3": _qwen3,
        "qwen3_moe": _qwen3_moe,
        "gemma": _gemma,
        "gemma2": _gemma,
        "gemma3_text": _gemma,
        "deepseek_v2": _deepseek,
        "deepseek_v3": _deepseek,
    }
)


def _mha(fields: Fields, hidden: str, heads: str, *, bias: bool) -> Attention:
    """Multi-head attention; `hidden` and `heads` are the names of the fields."""
    head_dim = fields.divided(hidden, heads)
    return Attention(fields.size(heads), fields.size(heads), head_dim, qkv_bias=bias, output_bias=bias)


def _attention(
    fields: Fields,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    mha_if_absent: bool = False,
    head_dim_default: int | None = None,
) -> Attention:
    heads = fields.size("num_attention_heads")
    # null means MHA; in some families an absent field does too
    is_mha = "num_key_value_heads" in fields.values or mha_if_absent
    kv_heads = fields.size("num_key_value_heads", heads if is_mha else None)
    if heads % kv_heads:
        raise BadModel(
            f"{fields.origin}: num_attention_heads={heads} is not a multiple of num_key_value_heads={kv_heads}"
        )
    head_dim = fields.size_or_none("head_dim") or head_dim_default
    if head_dim is None:
        head_dim = fields.divided("hidden_size", "num_attention_heads")
    return Attention(heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm)


def _experts(fields: Fields, copies_field: str, width: int, shared: Mlp | None = None) -> Experts:
    copies, active = fields.size(copies_field), fields.size("num_experts_per_tok")
    if active > copies:
        raise BadModel(f"{fields.origin}: num_experts_per_tok={active} is more than {copies_field}={copies}")
    return Experts(copies, active, width, shared)


def _qwen_windows(fields: Fields) -> Iterator[int | None]:
    if not fields.flag("use_sliding_window", default=False):
        return itertools.repeat(None)
    window, first = fields.size("sliding_window", 4096), fields.count("max_window_layers")
    return (window if i >= first else None for i in itertools.count())


def _rms_model(
    fields: Fields,
    attention: Attention | LatentAttention,
    mlps: Iterable[Mlp | Experts],
    windows: Iterator[int | None] | None = None,
    *,
    norms: int = 2,
    tied: bool = False,
) -> Model:
    """A model with RMSNorms, rotary positions and one attention shape. Equal layers become one block."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    if types := fields.items("layer_types"):
        windows = _typed_windows(fields, types, layers)
    counts: dict[tuple[Mlp | Experts, int | None], int] = {}
    for mlp, window, _ in zip(mlps, windows or itertools.repeat(None), range(layers), strict=False):
        counts[mlp, window] = counts.get((mlp, window), 0) + 1
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        tuple(Block(count, hidden, attention, mlp, norms * hidden, window) for (mlp, window), count in counts.items()),
        tied=fields.flag("tie_word_embeddings", default=tied),
        final_norm_params=hidden,
        context_limit=fields.size_or_none("max_position_embeddings"),
    )


def _typed_windows(fields: Fields, types: list[object], layers: int) -> Iterator[int | None]:
    if len(types) != layers:
        raise BadModel(f"{fields.origin}: layer_types has {len(types)} entries for num_hidden_layers={layers}")
    if unknown := [kind for kind in types if kind not in ("full_attention", "sliding_attention")]:
        known = "full_attention, sliding_attention"
        raise BadModel(f"{fields.origin}: layer_types: unknown {unknown[0]!r}; known: {known}")
    return iter([fields.size("sliding_window") if kind == "sliding_attention" else None for kind in types])

"""The fields of one configuration, read with checks. What is asked for is remembered, so that the rest can be named."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config.harmless import is_harmless

MAX_LAYERS, MAX_SIZE = 10_000, 10**12

# Names that mean the same: the `attribute_map` of `transformers`, and the names of remote code. Where one is asked for,
# any of them is read.
SYNONYMS = (
    ("hidden_size", "n_embd", "n_embed", "d_model"),
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"),
    ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads", "num_attention_groups"),
    ("head_dim", "attention_head_dim", "kv_channels"),
    ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "context_length"),
    ("vocab_size", "padded_vocab_size"),
    ("sliding_window", "sliding_window_size", "attention_window_size"),
    ("sliding_window_pattern", "_sliding_window_pattern"),
    ("layer_types", "layers_block_type"),
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"),
    (
        "num_experts_per_tok",
        "num_experts_per_token",
        "num_experts_per_topk",
        "moe_k",
        "moe_topk",
        "moe_top_k",
        "top_k_experts",
        "num_selected_experts",
    ),
    ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    ("moe_intermediate_size", "expert_ffn_hidden_size"),
    ("in_channels", "in_chans", "num_channels"),
    ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules"),
)
OTHER_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType({name: group for group in SYNONYMS for name in group})


@dataclass(frozen=True, slots=True)
class Fields:
    """Reads the fields of one configuration and checks them."""

    values: Mapping[str, object]
    origin: str  # names the file in messages
    name: str  # of the model
    architecture: str  # its `model_type`
    used: set[str] = field(default_factory=set, compare=False)  # names that were asked for, and their synonyms
    inner: "dict[str, Fields]" = field(default_factory=dict, compare=False)  # the configurations inside that were read

    def get(self, name: str) -> object:
        """The value as it stands; None if null or absent. A synonym's if only that is there."""
        return self.values.get(self.spelled(name))

    def spelled(self, name: str) -> str:
        """The name under which this configuration has `name`: itself, or a synonym."""
        group, found = OTHER_NAMES.get(name, (name,)), self._found(name)
        self.used.add(name)
        self.used.update(each for each in group if self.values.get(each) == self.values.get(found))
        return found

    def has(self, *names: str) -> bool:
        """Whether each of the names, or a synonym, is there; null counts."""
        self.used.update(names)
        return all(any(each in self.values for each in OTHER_NAMES.get(name, (name,))) for name in names)

    def use(self, *names: str) -> None:
        """Remember that the names are accounted for, though their values change nothing that is counted here."""
        self.used.update(names)

    def agrees(self, name: str, *, value: object) -> None:
        """Count the field as used if it has this value, which the reader takes for granted."""
        if self.values.get(name) == value:
            self.used.add(name)

    def unused(self) -> Iterator[str]:
        """Names of fields that nobody asked for, that are not empty, and that may change a count."""
        inside = [fields.values for fields in self.inner.values()]
        for name, value in self.values.items():
            if name in self.inner:
                yield from (f"{name}.{each}" for each in self.inner[name].unused())
            elif name in self.used or is_harmless(name, value) or value is None or value in ("", [], {}):
                continue
            elif not any(name in values for values in inside):  # written twice: what is inside is read
                yield name

    def size(self, name: str, default: int | None = None) -> int:
        """A positive whole number; `default` if null or absent. Raises BadModel naming the field."""
        spelled = self.spelled(name)
        value = self.values.get(spelled)
        if value is None:
            value = default
        if value is None:
            raise BadModel(f"{self.origin}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadModel(f"{self.origin}: {spelled} must be a positive whole number, not {value!r}")
        if value > MAX_SIZE:
            raise BadModel(f"{self.origin}: {spelled} is over {MAX_SIZE:.0e}, more than any model has")
        return value

    def size_or_none(self, name: str) -> int | None:
        """A positive whole number, or None if null or absent."""
        return None if self.get(name) is None else self.size(name)

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number that may be 0; `default` if null or absent. Raises BadModel naming the field."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        return 0 if type(value) is int and value == 0 else self.size(name)

    def layers(self, name: str) -> int:
        """A number of layers. Raises BadModel above MAX_LAYERS."""
        if (layers := self.size(name)) > MAX_LAYERS:
            spelled = self.spelled(name)
            raise BadModel(f"{self.origin}: {spelled}={layers} is more than the {MAX_LAYERS} layers that are supported")
        return layers

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; `default` if null or absent. Raises BadModel naming the field."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadModel(f"{self.origin}: {name} must be true or false, not {value!r}")
        return value

    def items(self, name: str) -> list[object]:
        """A list; empty if null or absent. Raises BadModel naming the field."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise BadModel(f"{self.origin}: {name} must be a list, not {value!r}")
        return value

    def text(self, name: str) -> str | None:
        """A text, or None if null or absent. Raises BadModel naming the field."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise BadModel(f"{self.origin}: {name} must be a text, not {value!r}")
        return value

    def divided(self, name: str, by: str, default_by: int | None = None) -> int:
        """`name` divided by `by`. Raises BadModel if there is a remainder."""
        size, parts = self.size(name), self.size(by, default_by)
        if size % parts:
            message = f"{self.spelled(name)}={size} is not a multiple of {self.spelled(by)}={parts}"
            raise BadModel(f"{self.origin}: {message}")
        return size // parts

    def inside(self, name: str) -> "Fields | None":
        """The configuration inside this one, None if null or absent. What it does not use is this one's unused too.
        Raises BadModel if it is no JSON object."""
        if name in self.inner:
            return self.inner[name]
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BadModel(f"{self.origin}: {name} must be a JSON object, not {value!r}")
        kind = value.get("model_type")
        fields = Fields(value, f"{self.origin} ({name})", self.name, kind if isinstance(kind, str) else "")
        self.inner[name] = fields
        return fields

    def with_defaults(self, defaults: Mapping[str, object]) -> "Fields":
        """The same with values for fields that are null or absent. What is read of it counts as used here too."""
        absent = {name: default for name, default in defaults.items() if self.values.get(self._found(name)) is None}
        return replace(self, values={**self.values, **absent})

    def _found(self, name: str) -> str:
        group = OTHER_NAMES.get(name, (name,))
        return next((each for each in (name, *group) if self.values.get(each) is not None), name)

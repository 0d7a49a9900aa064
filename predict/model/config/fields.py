"""The fields of one configuration, read with checks."""

from collections.abc import Mapping
from dataclasses import dataclass

from predict.errors import BadModel

MAX_LAYERS, MAX_SIZE = 10_000, 10**12


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

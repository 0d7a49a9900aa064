"""What a shell offers for a value: the known names that begin as what is typed; of a list, its last."""

from collections.abc import Callable, Iterable

from predict.gpus import GPUS
from predict.model.presets import PRESETS

Complete = Callable[[str], list[str]]


def one_of(names: Iterable[str]) -> Complete:
    """Complete to one of `names`, or to several with commas between them."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last.lower())]

    return complete


gpu_names = one_of(dict.fromkeys([*GPUS, *(alias for gpu in GPUS.values() for alias in gpu.aliases)]))
model_names = one_of(PRESETS)

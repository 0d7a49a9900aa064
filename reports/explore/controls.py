"""The controls of the page: what each sets, where it begins, and the stops of its slider.

A control's name is its parameter in the address. What it says is a text as the command line takes it: "8k", "fp8".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from predict.formulas.memory import OPTIMIZERS, WEIGHT_FORMATS, Recompute
from predict.gpus import GPUS
from predict.model.kept import Kernels
from predict.model.passes import Mask
from predict.model.presets import PRESETS
from predict.units import DTYPES

Choices = tuple[tuple[str, str], ...]  # what is set, and what is shown for it


@dataclass(frozen=True, slots=True)
class Control:
    """A slider if it has stops, a list if it has choices, else a text. One without a default sets nothing at first."""

    label: str
    default: str = ""
    stops: tuple[str, ...] = ()
    choices: Choices = ()
    field: str = ""  # of `Question`, whose option of `predict model` it gives
    changes: str = ""  # field of a config.json that --set changes
    is_chosen_by_answer: bool = False  # the section's answer has its stops or choices


def sizes(low: int, high: int, between: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Powers of two from `low` to `high`, and `between` them those times so many sixteenths."""
    found = {low * 2**power for power in range((high // low).bit_length())}
    found |= {
        size * part // 16 for size in found for part in between if size * part % 16 == 0 and size * part <= 16 * high
    }
    return tuple(map(str, sorted(found)))


def shares(low: int, high: int, step: int) -> tuple[str, ...]:
    """Percent from `low` to `high`."""
    return tuple(f"{share}%" for share in range(low, high + 1, step))


def listed(*names: str) -> Choices:
    """Choices that are shown as they are set."""
    return tuple((name, name) for name in names)


def unless(shown: str, *names: str) -> Choices:
    """The same with one more, `shown`, that sets nothing."""
    return (("", shown), *listed(*names))


# What a deployment is: these stand on top of the page, and every section asks with them.
SHARED: Mapping[str, Control] = MappingProxyType(
    {
        "model": Control("Model", "llama-3-8b", choices=listed(*PRESETS)),
        "gpu": Control("GPU", "h100-sxm", choices=listed(*GPUS), field="gpu"),
        "gpus": Control("GPUs", "1", sizes(1, 64), field="gpus"),
        "weights": Control("Weights", choices=unless("as shipped", *WEIGHT_FORMATS), field="weights"),
        "kv": Control("KV cache", choices=unless("as shipped", *DTYPES), field="kv"),
        "compute": Control("Products", choices=unless("as shipped", *DTYPES), field="compute"),
        "batch": Control("Batch", "1", sizes(1, 4096, (20, 24, 28)), field="batch"),
        "seq": Control("Prompt", stops=sizes(128, 2**20, (24,)), field="seq"),
        "context": Control("Cached tokens", stops=("0", *sizes(128, 2**20, (24,))), field="context"),
    }
)
DROPPED = ("config", "file")  # which config.json was dropped onto the page, and its name
POINTS = "points"  # whose measured points are drawn

# Changes of the model's configuration. Their stops depend on the model.
SHAPE: Mapping[str, Control] = MappingProxyType(
    {
        "layers": Control("Layers", changes="num_hidden_layers", is_chosen_by_answer=True),
        "hidden": Control("Hidden width", changes="hidden_size", is_chosen_by_answer=True),
        "mlp": Control("MLP width", changes="intermediate_size", is_chosen_by_answer=True),
        "vocab": Control("Vocabulary", changes="vocab_size", is_chosen_by_answer=True),
        "kv_heads": Control("KV heads", changes="num_key_value_heads", is_chosen_by_answer=True),
    }
)
_WEIGHTS = tuple(f"{value / 2:g}" for value in range(-6, 7))
_PRICES = tuple(f"{value / 4:g}" for value in range(1, 49))
_TOKENS = ("1B", "10B", "100B", "300B", "1T", "2T", "5T", "10T", "15T", "20T", "30T")

OWN: Mapping[str, Control] = MappingProxyType(
    {
        **dict.fromkeys(
            ("kernel_time", "kernel_phases", "kernel_cache"), Control("Kernel drawn", is_chosen_by_answer=True)
        ),
        "attention": Control("Attention", "causal", choices=listed(*Mask), field="mask"),
        "step": Control("Step of the graph", "0", tuple(map(str, range(8)))),
        "w1": Control("w1", "2", _WEIGHTS),
        "w2": Control("w2", "3", _WEIGHTS),
        "w3": Control("w3", "-1", _WEIGHTS),
        "recompute": Control("Recomputation", "none", choices=listed(*Recompute), field="recompute"),
        "use": Control("Use", "serve", choices=(("serve", "serving"), ("train", "training"))),
        "optimizer": Control("Optimizer", "adam", choices=listed(*OPTIMIZERS), field="optimizer"),
        "zero": Control("ZeRO stage", "3", tuple("0123"), field="zero"),
        "kernels": Control("Kernels", "eager", choices=listed(*Kernels), field="kernels"),
        "generated": Control("Tokens made", "256", sizes(2, 16384, (24,))),
        "accept": Control("Acceptance", "80%", shares(5, 95, 5), field="acceptance"),
        "depth": Control("Tokens drafted", "4", tuple(map(str, range(1, 17)))),
        "cost": Control("Draft step / target step", "5%", shares(1, 50, 1)),
        "draft": Control("Draft model", choices=unless("none", *PRESETS), field="draft"),
        "lengths": Control("Tokens of each request", "500,10,300,40,220,15,80,60"),
        "slots": Control("Slots", "2", tuple(map(str, range(1, 17)))),
        "phase": Control("Phase", "decode", choices=listed("decode", "prefill")),
        "price": Control("$ per GPU-hour", "2", _PRICES, field="usd_per_gpu_hour"),
        "mfu": Control("MFU", "40%", shares(5, 100, 5), field="mfu"),
        "train_gpus": Control("GPUs that train", "1024", sizes(1, 65536), field="gpus"),
        "train_batch": Control("Sequences of a step", "1024", sizes(1, 16384), field="batch"),
        "tokens": Control("Training tokens", stops=_TOKENS, field="tokens"),
    }
)  # fmt: skip
CONTROLS: Mapping[str, Control] = MappingProxyType(
    {**SHARED, **SHAPE, **OWN, POINTS: Control("Measured points", is_chosen_by_answer=True)}
)

"""The napkin's formulas by name, for the command line: `serving.batch_to_saturate`, `speculation.speedup`, ..."""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from numpy.typing import ArrayLike

from predict.errors import BadQuantity
from predict.formulas import memory, money, parallel, serving, speculation
from predict.formulas.memory import Recompute

Formula = Callable[..., object]

FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        f"{formula.__module__.rpartition('.')[2]}.{formula.__name__}": formula
        for formula in typing.cast(
            "tuple[Formula, ...]",
            (
                memory.bits_per_weight,
                memory.weight_bytes,
                memory.activation_bytes_per_layer,
                memory.attention_score_share,
                memory.selective_memory_saving,
                memory.selective_flop_overhead,
                memory.megatron_activation_bytes_per_layer,
                memory.logits_bytes,
                memory.output_layer_bytes,
                memory.kv_bytes_per_token,
                memory.mla_kv_bytes_per_token,
                memory.kv_share_per_gpu,
                memory.paged_kv_bytes,
                memory.page_waste_tokens,
                memory.min_gpus,
                memory.free_bytes,
                memory.kv_capacity_tokens,
                memory.max_requests,
                memory.max_context,
                serving.prefill_s,
                serving.decode_step_s,
                serving.mixed_step_s,
                serving.latency_s,
                serving.makespan_s,
                serving.decode_ceiling_tokens_per_s,
                serving.kv_crossover_batch,
                serving.max_decode_batch,
                serving.kv_slots,
                serving.decode_intensity_limit,
                serving.batch_to_saturate,
                serving.gemm_intensity,
                serving.gemm_tiles,
                serving.gemm_waves,
                serving.wave_efficiency,
                serving.concurrency,
                serving.bytes_in_flight,
                serving.mfu,
                serving.mbu,
                serving.static_batch_utilization,
                serving.static_utilization_exponential,
                serving.static_utilization_uniform,
                serving.continuous_batch_utilization,
                serving.paged_kv_utilization,
                serving.contiguous_kv_utilization,
                serving.kv_slots_gain,
                speculation.expected_tokens,
                speculation.speedup,
                speculation.flop_factor,
                speculation.best_k,
                speculation.batch_speedup,
                speculation.implied_acceptance,
                speculation.tree_expected_tokens,
                speculation.medusa_speedup,
                parallel.all_reduce_s,
                parallel.all_reduce_bytes,
                parallel.all_gather_s,
                parallel.reduce_scatter_s,
                parallel.all_to_all_s,
                parallel.bus_bandwidth_bytes_per_s,
                parallel.hierarchical_all_reduce_s,
                parallel.link_gap,
                parallel.tensor_parallel_message_bytes,
                parallel.tensor_parallel_comm_s,
                parallel.tensor_parallel_tax,
                parallel.pipeline_bubble,
                parallel.pipeline_overhead,
                parallel.pipeline_step_s,
                parallel.pipeline_memory_factor,
                parallel.data_parallel_min_tokens,
                parallel.data_parallel_step_s,
                parallel.fully_sharded_comm_s,
                parallel.fully_sharded_step_s,
                money.train_flop,
                money.train_s,
                money.gpu_hours,
                money.train_usd,
                money.usd_for_gpu_hours,
                money.usd_per_1m_tokens,
                money.break_even_tokens_per_s,
                money.break_even_utilization,
            ),
        )
    }
)


def find_formula(name: str) -> tuple[str, Formula]:
    """Return the formula called `name`, with or without its module, and its full name; raises BadQuantity."""
    found = [full for full in FORMULAS if name in (full, full.partition(".")[2])]
    if len(found) == 1:
        return found[0], FORMULAS[found[0]]
    close = difflib.get_close_matches(name, [*FORMULAS, *(full.partition(".")[2] for full in FORMULAS)], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise BadQuantity(f"unknown formula {name!r}; {hint}`python -m predict formulas` lists them")


def evaluate(name: str, arguments: Mapping[str, str]) -> object:
    """Work out a formula for arguments as text. Raises BadQuantity naming what is missing, unknown or unreadable."""
    full, formula = find_formula(name)
    parameters = inspect.signature(formula).parameters
    takes = f"it takes {', '.join(parameters)}"
    if unknown := [argument for argument in arguments if argument not in parameters]:
        raise BadQuantity(f"{full} has no {unknown[0]!r}; {takes}")
    needed = [each.name for each in parameters.values() if each.default is inspect.Parameter.empty]
    if missing := [argument for argument in needed if argument not in arguments]:
        raise BadQuantity(f"{full} needs {', '.join(f'{each}=...' for each in missing)}; {takes}")
    return formula(**{each: _read(each, text, parameters[each].annotation) for each, text in arguments.items()})


def _read(name: str, text: str, annotation: object) -> object:
    """A number; a list where lengths are wanted, lists between semicolons for a tree; true or false; the name of a
    recomputation."""
    if annotation is ArrayLike:
        return [_number(name, item) for item in text.split(",")]
    if annotation in (Sequence[Sequence[float]], Iterable[Sequence[int]]):
        return [[_number(name, item) for item in group.split(",")] for group in text.split(";")]
    if annotation is bool:
        if text not in ("true", "false"):
            raise BadQuantity(f"{name} must be true or false, not {text!r}")
        return text == "true"
    if annotation is Recompute:
        if text not in list(Recompute):
            raise BadQuantity(f"{name} must be one of {', '.join(Recompute)}, not {text!r}")
        return Recompute(text)
    return _number(name, text)


def _number(name: str, text: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise BadQuantity(f"{name} must be a number, not {text!r}") from None

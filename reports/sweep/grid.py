"""Predicts every batch and context of a model on several GPUs, as one frame: memory, prefill, decode, rate, price.

    python -m reports sweep --model llama-3-8b --gpu h100,h200 --out runs/sweep

writes runs/sweep/sweep.parquet and its figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from predict import checks
from predict.errors import BadQuantity, MissingCeiling
from predict.formulas import money
from predict.model.passes import Logits
from predict.model.replica import Replica
from predict.ranges import LARGEST_SIZE
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.roofline import Prediction
from predict.units import si

MAX_POINTS = 20_000_000  # 4 GB of columns
BLOCK_POINTS = 1_000_000  # evaluated at a time, since the terms of a pass take several times the memory of its rows
CONTEXTS_SHOWN = 4
_ROUNDING = 1e-9  # relative; throughputs that differ by less count as equal

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "model": "name of the model",
        "gpu": "SKU of each GPU",
        "gpus": "GPUs of the replica",
        "batch": "sequences that are decoded together",
        "context": "tokens of each sequence in the KV cache; the length of the prompt for prefill",
        "weight_bytes": "all weights, all GPUs together",
        "kv_bytes": "KV cache of the batch, all GPUs together, copied heads counted",
        "fits": "weights, KV cache and overhead are within the memory of the GPUs",
        "max_batch": "sequences of this context that fit beside the weights",
        "prefill_flop": "FLOP of one causal forward pass over the prompts of the whole batch, all GPUs together",
        "prefill_s": "time of this pass",
        "ttft_s": "time to first token of the batch: prefill_s, without a queue",
        "decode_flop": "FLOP of one decode step, all GPUs together",
        "decode_bytes": "bytes that one decode step reads and writes, all GPUs together",
        "decode_intensity": "decode_flop / decode_bytes",
        "decode_step_s": "time of one decode step: the largest of the next three",
        "decode_compute_s": "time of its FLOP alone",
        "decode_dram_s": "time of its DRAM traffic alone",
        "decode_link_s": "time of what each GPU sends to the others alone; 0 for one GPU",
        "decode_bound": "the resource of the largest of the three",
        "tpot_s": "time per output token of a request: one decode step",
        "decode_tokens_per_s": "output tokens per second of the replica: batch / decode_step_s, prefill not counted",
        "tokens_per_s_per_gpu": "decode_tokens_per_s / gpus",
        "mfu": "FLOP rate of the decode step over the whole compute peak",
        "mbu": "DRAM rate of the decode step over the whole bandwidth",
        "usd_per_1m_tokens": "price of a million output tokens while the batch is full, prefill not counted",
    }
)

Sizes = NDArray[np.int64]


def sweep(
    replicas: Sequence[Replica],
    batches: ArrayLike,
    contexts: ArrayLike,
    *,
    logits: Logits = Logits.LAST,
    usd_per_gpu_hour: float = 2.0,
    largest: bool = False,
) -> pd.DataFrame:
    """One row per GPU, batch and context, in this order; `COLUMNS` explains the columns, `attrs` hold the assumptions.
    With `largest`, there is also a row for the largest batch that fits, where that is between two of the batches.

    Raises BadQuantity for sizes that are not whole numbers, more than `MAX_POINTS` rows, several models or a GPU given
    twice, and MissingCeiling for a GPU that lacks a roof, naming it.
    """
    checks.whole(batch=batches, context=contexts)
    checks.not_negative(usd_per_gpu_hour=usd_per_gpu_hour)
    batch, context = (np.atleast_1d(np.asarray(sizes, dtype=np.int64)) for sizes in (batches, contexts))
    _check_grid(replicas, batch.size, context.size)
    for replica in replicas:
        _check_gpu(replica)
    price = usd_per_gpu_hour
    parts = [list(_blocks(replica, batch, context, logits, price, largest=largest)) for replica in replicas]
    sizes = [sum(block["batch"].size for block in blocks) for blocks in parts]
    blocks = [block for each in parts for block in each]
    columns = {name: np.concatenate([block.pop(name) for block in blocks]) for name in tuple(blocks[0])}
    names = [replica.gpu.name for replica in replicas]
    gpu = np.repeat(np.arange(len(names), dtype=np.int8), sizes)
    if largest:
        order = np.lexsort((columns["context"], columns["batch"], gpu))
        columns = {name: values[order] for name, values in columns.items()}
    frame = pd.DataFrame(
        {
            "model": _categorical(np.zeros(gpu.size, dtype=np.int8), [replicas[0].model.name]),
            "gpu": _categorical(gpu, names),
            **columns,
        },
        copy=False,
    )
    bounds = [resource.value for resource in Resource]
    frame["decode_bound"] = _categorical(columns["decode_bound"], bounds).remove_unused_categories()
    frame.attrs.update(_assumptions(replicas, logits, usd_per_gpu_hour))
    return frame[list(COLUMNS)]


def pick_sizes(sizes: ArrayLike, count: int) -> list[int]:
    """At most `count` of the sizes: the first, the last and others spread evenly on a logarithmic axis."""
    known = np.unique(np.asarray(sizes))
    wanted = np.geomspace(known[0], known[-1], count)
    nearest = np.abs(np.log(known)[:, np.newaxis] - np.log(wanted)).argmin(axis=0)
    return [int(size) for size in known[np.unique(nearest)]]


def best_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The row with the highest decode throughput that fits, for each GPU and up to `CONTEXTS_SHOWN` contexts; the
    smallest batch wins a tie. Where no batch fits, the row has only gpu, context and max_batch."""
    shown = frame[frame["context"].isin(pick_sizes(frame["context"], CONTEXTS_SHOWN))]
    keys = ["gpu", "context"]
    fitting = shown[shown["fits"]]
    highest = fitting.groupby(keys, observed=True)["decode_tokens_per_s"].transform("max")
    equals = fitting[fitting["decode_tokens_per_s"] >= highest * (1 - _ROUNDING)]
    best = equals.sort_values([*keys, "batch"]).drop_duplicates(keys).drop(columns=["model", "fits", "max_batch"])
    rows = shown.drop_duplicates(keys)[[*keys, "max_batch"]].merge(best, on=keys, how="left")
    return rows.astype({"gpus": "Int64", "batch": "Int64"})


def setting(frame: pd.DataFrame) -> str:
    """One line on the sweep: model, GPUs, formats and efficiency."""
    replica = frame.attrs["replicas"][0]
    shares = [f"{name.upper()} {replica[name]:g}" for name in ("mfu", "mbu") if replica[name] is not None]
    return "; ".join(
        (
            frame.attrs["model"] + (f" on {replica['gpus']} GPUs{_layouts(frame)}" if replica["gpus"] > 1 else ""),
            f"weights {replica['weight_bits']:.4g} bits, KV cache {replica['kv_bits']} bits",
            f"{' or '.join(dict.fromkeys(each['compute'] for each in frame.attrs['replicas']))} matmuls",
            ", ".join(shares) or "napkin bound",
        )
    )


def _layouts(frame: pd.DataFrame) -> str:
    """How the GPUs share the model, if not all of them by tensor parallelism: " (tp 1, dp 8, ep 8)"."""
    replicas = frame.attrs["replicas"]
    layouts = dict.fromkeys(each["layout"] for each in replicas)
    return "" if all(each["layout"] == f"tp {each['gpus']}" for each in replicas) else f" ({' or '.join(layouts)})"


def remarks(frame: pd.DataFrame) -> list[str]:
    """Lines that a reader of the numbers must know."""
    lines = [setting(frame)]
    at_peak = [f"--{name}" for name in ("mfu", "mbu") if frame.attrs["replicas"][0][name] is None]
    if at_peak:
        lines.append(f"no {' and no '.join(at_peak)}: times are the napkin's bound at full peak; real times are longer")
    kept = {replica["gpu"]: replica["overhead_bytes"] for replica in frame.attrs["replicas"]}
    if any(kept.values()):
        each = ", ".join(f"{si(size, 'B')} of each {gpu}" for gpu, size in kept.items())
        lines.append(f"an engine keeps {each} besides weights and cache; --overhead 0 counts bare memory")
    limit, longest = frame.attrs["context_limit"], int(frame["context"].max())
    if limit is not None and longest > limit:
        lines.append(f"contexts over {limit} exceed what {frame.attrs['model']} was made for; they are computed anyway")
    return lines


def write_parquet(frame: pd.DataFrame, file: Path) -> None:
    """Replace a file by the frame in one step; its `attrs` go into the metadata."""
    part = file.with_name(f".{file.name}.part")
    try:
        frame.to_parquet(part, engine="pyarrow", compression="zstd", index=False)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _check_grid(replicas: Sequence[Replica], batches: int, contexts: int) -> None:
    points = len(replicas) * batches * contexts
    if not points:
        raise BadQuantity("a sweep needs a GPU, a batch and a context")
    if points > MAX_POINTS:
        raise BadQuantity(
            f"{len(replicas)} GPUs, {batches:,} of --batch and {contexts:,} of --context make {points:,} points;"
            f" a sweep has at most {MAX_POINTS:,}"
        )
    if len({replica.model for replica in replicas}) > 1 or len({each.gpu.name for each in replicas}) < len(replicas):
        raise BadQuantity("a sweep takes one model, and every GPU once")


def _check_gpu(replica: Replica) -> None:
    """Raise MissingCeiling, naming the GPU, if it lacks a rate that the sweep needs."""
    gpu = replica.gpu
    try:
        for resource in (matmul_unit(replica.formats.compute), Resource.DRAM):
            find_ceiling(resource, gpu.roofs)
    except MissingCeiling as error:
        raise MissingCeiling(f"{gpu.name}: {error}") from None


def _split(batch: Sizes, context: Sizes) -> Iterator[tuple[Sizes, Sizes]]:
    """The grid in blocks of about `BLOCK_POINTS`, in the order of the rows: a block has several batches or part of
    one."""
    parts = -(-batch.size * context.size // BLOCK_POINTS)
    for some_batches in np.array_split(batch, min(parts, batch.size)):
        for some_contexts in np.array_split(context, -(-parts // batch.size)):
            yield some_batches, some_contexts


def _blocks(
    replica: Replica, batches: Sizes, contexts: Sizes, logits: Logits, usd_per_gpu_hour: float, *, largest: bool
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """The columns of one GPU over batches x contexts, flat; context varies fastest. Then, with `largest`, those of the
    largest batch that fits, for each context where it is between two of `batches`."""
    for some, others in _split(batches, contexts):
        yield _columns(replica, some[:, np.newaxis], others[np.newaxis, :], logits, usd_per_gpu_hour)
    fitting = np.minimum(replica.max_batch(contexts.astype(np.float64)), LARGEST_SIZE).astype(np.int64)
    between = (fitting > batches.min()) & (fitting < batches.max()) & ~np.isin(fitting, batches)
    if largest and between.any():
        yield _columns(replica, fitting[between], contexts[between], logits, usd_per_gpu_hour)


def _columns(
    replica: Replica, batches: Sizes, contexts: Sizes, logits: Logits, usd_per_gpu_hour: float
) -> dict[str, NDArray[np.generic]]:
    """The columns of one GPU, flat, for batches and contexts that broadcast to one shape."""
    shape = np.broadcast_shapes(batches.shape, contexts.shape)
    batch, context = batches.astype(np.float64), contexts.astype(np.float64)
    prefill, decode = replica.prefill(batch, context, logits=logits), replica.decode(batch, context)
    prefill_s, step_s, step_flop = prefill.napkin_s, decode.napkin_s, decode.work.flop
    max_batch = np.minimum(replica.max_batch(context), 2**53)  # the largest whole number that a float counts to
    columns: dict[str, ArrayLike] = {
        "gpus": np.int64(replica.gpus),
        "batch": batches,
        "context": contexts,
        "weight_bytes": np.float64(replica.weight_bytes),
        "kv_bytes": replica.resident_kv_bytes(batch, context),
        "fits": batch <= max_batch,
        "max_batch": np.asarray(max_batch).astype(np.int64),
        "prefill_flop": prefill.work.flop,
        "prefill_s": prefill_s,
        "ttft_s": prefill_s,
        "decode_flop": step_flop,
        "decode_bytes": decode.bytes,
        "decode_intensity": step_flop / decode.bytes,
        "decode_step_s": step_s,
        "decode_compute_s": decode.compute_s,
        "decode_dram_s": decode.dram_s,
        "decode_link_s": decode.link_s,
        "decode_bound": _bound(decode, shape),
        "tpot_s": step_s,
        "decode_tokens_per_s": batch / step_s,
        "tokens_per_s_per_gpu": batch / step_s / replica.gpus,
        "mfu": decode.mfu,
        "mbu": decode.mbu,
        "usd_per_1m_tokens": money.usd_per_1m_tokens(usd_per_gpu_hour, batch / step_s, replica.gpus),
    }
    return {name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()}


def _bound(prediction: Prediction, shape: tuple[int, int]) -> NDArray[np.int8]:
    """The resource of each point's largest term, as its index in `Resource`; the first term wins a tie."""
    largest = np.argmax([np.broadcast_to(term.time_s, shape) for term in prediction.terms], axis=0)
    places = np.array([list(Resource).index(term.resource) for term in prediction.terms], dtype=np.int8)
    bound: NDArray[np.int8] = places[largest]
    return bound


def _categorical(codes: NDArray[np.int8], names: Sequence[str]) -> "pd.Categorical[str]":
    return pd.Categorical.from_codes(codes, pd.Index(list(names)))


def _assumptions(replicas: Sequence[Replica], logits: Logits, usd_per_gpu_hour: float) -> dict[str, object]:
    """All assumptions behind the numbers, ready for JSON."""
    model = replicas[0].model
    return {
        "model": model.name,
        "model_text": model.text,
        "context_limit": model.context_limit,
        "logits": logits.value,
        "usd_per_gpu_hour": usd_per_gpu_hour,
        "replicas": [_replica_assumptions(replica) for replica in replicas],
        "columns": dict(COLUMNS),
    }


def _replica_assumptions(replica: Replica) -> dict[str, object]:
    used = (matmul_unit(replica.formats.compute), Resource.DRAM)
    roofs = {resource: find_ceiling(resource, replica.roofs) for resource in used}
    return {
        "gpu": replica.gpu.name,
        "gpus": replica.gpus,
        "layout": replica.layout.text,
        "weight_bits": replica.mean_weight_bits,
        "kv_bits": replica.formats.kv_bits,
        "compute": replica.formats.compute.name,
        "mfu": replica.mfu,
        "mbu": replica.mbu,
        "hbm_bytes": replica.memory_bytes,
        "overhead_bytes": replica.reserved_bytes,
        "link_bytes_per_s": replica.gpu.link_bytes_per_s if replica.gpus > 1 else None,
        "roofs": {name.value: {"per_s": roof.per_s, "source": roof.source} for name, roof in roofs.items()},
    }

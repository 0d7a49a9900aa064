"""The passes of a model that a run measured: passes.json beside its records.

A record knows its workload alone. This file says which workloads make up a pass, how often each runs in it, and what
the napkin says of the whole. Needs no torch.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.record import decode, encode
from predict.errors import BadRecord
from predict.json_file import strict_json
from predict.model.model_kernel import ModelKernel
from predict.units import DType
from predict.workloads import Amounts

PASSES = "passes.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Whole:
    """Several kernels measured as one: a layer, or the model."""

    name: str  # "layer" or "model"
    count: int  # in a pass
    workload: str | None  # id; None: no op computes it
    reason: str  # why not


@dataclass(frozen=True, slots=True)
class ModelPass:
    """One pass of a model on one GPU, or on the CPU."""

    model: str
    phase: str  # "decode" or "prefill"
    batch: int
    tokens: int  # cached ones of each request in decode, of each prompt in prefill
    layout: str  # "tp 2": this is one of its GPUs
    dtype: DType  # of activations
    kernels: tuple[ModelKernel, ...]
    wholes: tuple[Whole, ...]
    amounts: Amounts  # of this GPU in the whole pass
    expected_s: float | None  # of the whole pass, as `predict model` says
    notes: tuple[str, ...]  # what a reader should know

    @property
    def key(self) -> tuple[object, ...]:
        """What was asked: a later pass of the same key replaces this one."""
        return self.model, self.phase, self.batch, self.tokens, self.layout, self.dtype

    @property
    def title(self) -> str:
        """The pass for a person: "llama-3-8b, decode, batch 8, 8,192 cached tokens, bf16"."""
        tokens = f"{self.tokens:,} {'cached tokens' if self.phase == 'decode' else 'tokens a prompt'}"
        layout = "" if self.layout == "tp 1" else f", one GPU of {self.layout}"
        return f"{self.model}, {self.phase}, batch {self.batch:,}, {tokens}{layout}, {self.dtype.name}"


@dataclass(frozen=True, slots=True)
class Passes:
    """The file."""

    schema: int
    passes: tuple[ModelPass, ...]


def write_passes(folder: Path, passes: Iterable[ModelPass]) -> None:
    """Add passes to the file of a folder, in place of those of the same key. Raises BadRecord for a broken file."""
    known = {each.key: each for each in (*read_passes(folder), *passes)}
    if not known:
        return
    text = json.dumps(encode(Passes(SCHEMA, tuple(known.values()))), allow_nan=False, indent=1)
    temporary = folder / f"{PASSES}.new"
    temporary.write_text(f"{text}\n", encoding="utf-8")
    temporary.replace(folder / PASSES)


def read_passes(folder: Path) -> tuple[ModelPass, ...]:
    """The passes of a run; none without a file. Raises BadRecord for a file that is none of this version."""
    file = folder / PASSES
    if not file.is_file():
        return ()
    try:
        data = strict_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRecord(f"{file}: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BadRecord(f"{file} is not of schema {SCHEMA}; use the version that wrote it")
    try:
        return decode(Passes, data).passes
    except BadRecord as error:
        raise BadRecord(f"{file}: {error}") from None

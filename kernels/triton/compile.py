"""Compiles every Triton kernel ahead of time for given architectures and reports what it needs. Uses no GPU.

Triton decides on its interpreter when a kernel is decorated, and cannot compile an interpreted kernel. So this compiles
in fresh processes with the interpreter off: one per core, each with its share of the kernels.
"""

import argparse
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, product
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels.constants import ARCHITECTURES
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.triton.promotion import why_imprecise

# This module imports no Triton: the process that asks for a compilation may interpret, or have none.
MODULES = (
    "matmul",
    "quantized",
    "experts",
    "rowwise",
    "attention.prefill",
    "attention.backward",
    "attention.decode",
    "attention.mla",
    "generation",
    "stream",
    "launch",
)  # in the order of the table

_TYPICAL_SM_COUNT = 128  # near that of an A100 (108), an H100 (132) and a B200 (148)
_ALIGNMENT = 16  # bytes of a pointer, or a factor of an integer, that Triton specializes on
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")
# Counted in machine code: products, copies to shared memory, blocks by descriptor, registers moved between warps.
_OPCODE = re.compile(r"\b(U?[HIQDO](?:G?MMA)|UTC[A-Z]*MMA|LDGSTS|UTMALDG|UTMASTG|USETMAXREG)\b")
_WIDE_LOAD = re.compile(r"\bLDG(?:STS)?\.E\.(?:[A-Z0-9_]+\.)*128\b")
_SPILL = re.compile(r"\b(?:STL|LDL)\b")
WIDE_LOAD = "128-bit loads"

# Names of formats in Triton's signatures where they differ from PyTorch's.
_SIGNATURE_NAMES = {"fp8": "fp8e4nv", "int8": "i8", "int32": "i32"}


class CompileError(Exception):
    """A bad request: an unknown architecture, or no Triton. The message is one line."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of compiling one kernel. `status`: "compiled", "failed" or "not_supported", the last two with a
    reason.

    `default`: an untuned launch uses this configuration. Registers are per thread, shared memory per program;
    `occupancy` is the share of an SM's warps that can be resident.
    """

    kernel: str
    arch: str
    dtype: str
    config: str
    default: bool
    status: str
    reason: str = ""
    registers: int | None = None
    stack_bytes: int | None = None
    spill_instructions: int | None = None
    shared_bytes: int | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)
    occupancy: float | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cubin needs. Its LOCAL is always 0: spills show as stack, and as STL and LDL in the code."""

    registers: int
    stack_bytes: int
    spill_instructions: int
    instructions: Mapping[str, int]


def compile_kernels(
    architectures: Sequence[int],
    *,
    dtypes: Sequence[str] | None = None,
    every: bool = False,
    on_row: Callable[[Compiled], None] | None = None,
    workers: int | None = None,
) -> list[Compiled]:
    """Compile the default configurations of all kernels in `dtypes` (None: all formats), or `every` configuration.
    `on_row` is called with each result as it arrives.

    Returns the results ordered by module, architecture and dtype. Raises CompileError for an unknown architecture,
    without Triton, and where a worker process stops.
    """
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            known = ", ".join(f"sm{known}" for known in ARCHITECTURES)
            raise CompileError(f"unknown architecture sm{architecture}; known: {known}")
    if importlib.util.find_spec("triton") is None:
        raise CompileError("Triton is not installed; it is available for Linux (pip install triton)")
    workers = workers or os.cpu_count() or 1
    jobs = [*map(str, architectures), "--dtypes", *(dtypes or TORCH_DTYPES), "--parts", str(workers)]
    jobs += ["--every"] if every else []
    rows: dict[int, list[Compiled]] = {}
    with ThreadPoolExecutor(workers) as pool:
        for share in pool.map(lambda part: _run_worker([*jobs, "--part", str(part)], on_row), range(workers)):
            rows.update(share)
    return [row for job in sorted(rows) for row in rows[job]]


def compile_module(module: ModuleType, architecture: int, dtype: str, *, every: bool = False) -> Iterator[Compiled]:
    """Compile the default launches of `module` in `dtype`, or `every` configuration that it has. Only for a process
    that does not interpret."""
    from kernels.triton.plan import Target, missing_unit  # noqa: PLC0415  (imports Triton, see above)

    name, arch = module.__name__.removeprefix("kernels.triton."), f"sm{architecture}"
    reason = module.UNSUPPORTED_DTYPES.get(dtype) or missing_unit(dtype, architecture)
    if architecture not in module.SUPPORTED_ARCHITECTURES:
        reason = f"supported: {', '.join(f'sm{known}' for known in module.SUPPORTED_ARCHITECTURES)}"
    if reason:
        yield Compiled(name, arch, dtype, "", default=True, status="not_supported", reason=reason)
        return
    target = Target(architecture, _TYPICAL_SM_COUNT)
    defaults = module.ahead_of_time(target, dtype)
    for launch in defaults:
        yield compile_launch(launch, target, dtype, default=True)
    if every and hasattr(module, "every_configuration"):
        seen = {(launch.kernel, launch.config) for launch in defaults}
        for launch in module.every_configuration(target, dtype):
            if (launch.kernel, launch.config) not in seen:
                yield compile_launch(launch, target, dtype, default=False)


def compile_launch(launch: Any, target: Any, dtype: str, *, default: bool) -> Compiled:
    """Compile one launch and judge it. Only for a process that does not interpret.

    A default fails where it spills, lacks an instruction that it declares, sums fp8 too long, or does not fit in shared
    memory. Any other configuration is then `not_supported`, so that no tuner tries it.
    """
    import triton  # noqa: PLC0415  (see above)
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415
    from triton.errors import TritonError  # noqa: PLC0415

    row = Compiled(
        launch.kernel.__name__, f"sm{target.architecture}", dtype, launch.config, default=default, status="compiled"
    )
    bad = "failed" if default else "not_supported"
    try:
        compiled = triton.compile(
            ASTSource(launch.kernel, *_specialize(launch)),
            target=GPUTarget("cuda", target.architecture, 32),
            options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
        )
    except (RuntimeError, TritonError) as error:
        return replace(row, status=bad, reason=f"does not compile: {_last_line(error)}")
    used = _read_cubin(compiled.asm["cubin"])
    shared_bytes, warps = compiled.metadata.shared, compiled.metadata.num_warps
    reasons = []
    if used.stack_bytes or used.spill_instructions:
        reasons.append(f"spills {used.stack_bytes} bytes of registers by {used.spill_instructions} instructions")
    wanted = launch.opcodes.get(target.architecture, ())
    reasons += [f"has no {opcode} instruction" for opcode in wanted if opcode not in used.instructions]
    if imprecise := why_imprecise(compiled.asm["ptx"]):
        reasons.append(imprecise)
    if shared_bytes > target.shared_bytes:
        reasons.append(f"needs {shared_bytes} bytes of shared memory, of which there are {target.shared_bytes}")
    return replace(
        row,
        status=bad if reasons else "compiled",
        reason="; ".join(reasons),
        registers=used.registers,
        stack_bytes=used.stack_bytes,
        spill_instructions=used.spill_instructions,
        shared_bytes=shared_bytes,
        instructions=used.instructions,
        occupancy=target.occupancy(used.registers, shared_bytes, warps),
    )


def _last_line(error: BaseException) -> str:
    """The last line of the innermost cause: outer errors of Triton only say where a function was called."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[-1]


def _specialize(launch: Any) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Signature, constants and alignment attributes of a launch, as Triton derives them at run time."""
    from kernels.triton.plan import Descriptor  # noqa: PLC0415  (see above)

    signature, constants, attributes = {}, dict(launch.constants), {}
    for index, name in enumerate(launch.kernel.arg_names):
        value = constants[name] if name in constants else launch.arguments[name]
        if name in constants or value is None or (isinstance(value, int) and value == 1):
            signature[name] = "constexpr"
            constants.setdefault(name, value)
            continue
        if isinstance(value, Descriptor):
            block = ", ".join(str(size) for size in value.block)
            signature[name] = f"tensordesc<{_signature_name(value.tensor)}[{block}]>"
            continue
        if isinstance(value, float):
            signature[name] = "fp32"
            continue
        if isinstance(value, int):
            signature[name] = "i32" if value < 2**31 else "i64"
            aligned = value % _ALIGNMENT == 0
        else:
            signature[name] = f"*{_signature_name(value)}"
            aligned = value.storage_offset() * value.element_size() % _ALIGNMENT == 0
        if aligned:
            attributes[(index,)] = [["tt.divisibility", _ALIGNMENT]]
    return signature, constants, attributes


def _signature_name(tensor: Any) -> str:
    name = dtype_name(tensor.dtype)
    return _SIGNATURE_NAMES.get(name, name)


def _read_cubin(cubin: bytes) -> Resources:
    """Registers and stack from a cubin's header, and instructions counted in its disassembly."""
    import triton.backends.nvidia  # noqa: PLC0415  (see above)

    tool = Path(triton.backends.nvidia.__path__[0]) / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        options = ["--dump-resource-usage", "--dump-sass"]
        text = subprocess.run([tool, *options, path], capture_output=True, text=True, check=True).stdout
    found = _RESOURCES.search(text)
    assert found, text
    counts = Counter(_OPCODE.findall(text))
    counts[WIDE_LOAD] = len(_WIDE_LOAD.findall(text))
    return Resources(
        registers=int(found[1]),
        stack_bytes=int(found[2]),
        spill_instructions=len(_SPILL.findall(text)),
        instructions={opcode: count for opcode, count in sorted(counts.items()) if count},
    )


def _run_worker(arguments: Sequence[str], on_row: Callable[[Compiled], None] | None) -> dict[int, list[Compiled]]:
    """Run a share of the jobs in a process. Returns its rows by job. Raises CompileError where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "kernels.triton.compile", *arguments]
    rows: dict[int, list[Compiled]] = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            job, fields = json.loads(line)
            row = Compiled(**fields)
            rows.setdefault(job, []).append(row)
            if on_row:
                on_row(row)
        if process.wait():
            errors.seek(0)
            raise CompileError(f"compilation stopped: {errors.read().strip()[-2000:]}")
    return rows


def _work() -> None:
    """In the worker process: compile every `parts`-th job from `part` on; print a JSON line for each row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("architectures", nargs="+", type=int)
    parser.add_argument("--dtypes", nargs="+")
    parser.add_argument("--parts", type=int)
    parser.add_argument("--part", type=int)
    parser.add_argument("--every", action="store_true")
    share = parser.parse_args()
    jobs = enumerate(product(MODULES, share.architectures, share.dtypes))
    for job, (name, architecture, dtype) in islice(jobs, share.part, None, share.parts):
        module = importlib.import_module(f"kernels.triton.{name}")
        for row in compile_module(module, architecture, dtype, every=share.every):
            sys.stdout.write(json.dumps([job, asdict(row)]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _work()

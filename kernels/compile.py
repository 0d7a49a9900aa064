"""Compiles every Triton kernel ahead of time for named architectures and says what it needs. No GPU takes part.

Triton's interpreter is chosen when a kernel is decorated and an interpreted kernel cannot be compiled, so all of it
happens in fresh processes with the interpreter off: one per core, each taking its share of the kernels.
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
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels.constants import ARCHITECTURES
from kernels.precision import TORCH_DTYPES, dtype_name

# Nothing of Triton is imported here: the process that asks for a compilation may interpret, or have no Triton.
MODULES = ("matmul", "attention", "decode", "generation", "stream", "launch")

_TYPICAL_SM_COUNT = 128  # near that of an A100 (108), an H100 (132) and a B200 (148)
_ALIGNMENT = 16  # bytes of a pointer, or a factor of an integer, that Triton specialises on
_TENSOR_CORE_OPCODE = re.compile(r"\b(U?[HIQDO](?:G?MMA)|UTC[A-Z]*MMA)\b")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")


class CompileError(Exception):
    """A request that cannot be compiled: an unknown architecture, or no Triton; the message is one line."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of one kernel: status "ok", "failed" or "not_supported"; the last two carry a reason."""

    kernel: str
    architecture: int
    dtype: str
    config: str
    status: str
    reason: str = ""
    registers: int | None = None
    stack_bytes: int | None = None
    shared_bytes: int | None = None
    cubin_bytes: int | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)


def compile_kernels(
    architectures: Sequence[int],
    *,
    dtypes: Sequence[str] | None = None,
    on_row: Callable[[Compiled], None] | None = None,
    workers: int | None = None,
) -> list[Compiled]:
    """Compile the default configurations of all kernels in `dtypes` (all); `on_row` sees each result as it arrives.

    Returns them ordered by module, architecture and dtype. Raises CompileError where that cannot be done at all.
    """
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            known = ", ".join(f"sm{known}" for known in ARCHITECTURES)
            raise CompileError(f"unknown architecture sm{architecture}; known: {known}")
    if importlib.util.find_spec("triton") is None:
        raise CompileError("Triton is not installed; it is available for Linux (pip install triton)")
    workers = workers or os.cpu_count() or 1
    jobs = [*map(str, architectures), "--dtypes", *(dtypes or TORCH_DTYPES), "--parts", str(workers)]
    rows: dict[int, list[Compiled]] = {}
    with ThreadPoolExecutor(workers) as pool:
        for share in pool.map(lambda part: _run_worker([*jobs, "--part", str(part)], on_row), range(workers)):
            rows.update(share)
    return [row for job in sorted(rows) for row in rows[job]]


def compile_module(module: ModuleType, architecture: int, dtype: str) -> Iterator[Compiled]:
    """Compile what `module` launches by default in `dtype`; only in a process that does not interpret."""
    from kernels.plan import Target  # noqa: PLC0415  (imports Triton, see above)

    name = module.__name__.rpartition(".")[2]
    if dtype not in module.SUPPORTED_DTYPES:
        yield Compiled(name, architecture, dtype, "", "not_supported", module.UNSUPPORTED_DTYPES[dtype])
    elif architecture not in module.SUPPORTED_ARCHITECTURES:
        reason = f"supported: {', '.join(f'sm{known}' for known in module.SUPPORTED_ARCHITECTURES)}"
        yield Compiled(name, architecture, dtype, "", "not_supported", reason)
    else:
        target = Target(architecture, _TYPICAL_SM_COUNT)
        for launch in module.ahead_of_time(target, dtype):
            yield compile_launch(launch, target, dtype)


def compile_launch(launch: Any, target: Any, dtype: str) -> Compiled:
    """Compile one launch and judge it; only in a process that does not interpret."""
    import triton  # noqa: PLC0415  (see above)
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415
    from triton.errors import TritonError  # noqa: PLC0415

    name = launch.kernel.__name__
    config = f"{launch.config}, {launch.num_warps} warps, {launch.num_stages} stages"
    try:
        compiled = triton.compile(
            ASTSource(launch.kernel, *_specialise(launch)),
            target=GPUTarget("cuda", target.architecture, 32),
            options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
        )
    except (RuntimeError, TritonError) as error:
        return Compiled(name, target.architecture, dtype, config, "failed", f"does not compile: {error}")
    cubin = compiled.asm["cubin"]
    registers, stack_bytes, instructions = _read_cubin(cubin, disassemble=bool(launch.opcodes))
    shared_bytes = compiled.metadata.shared
    wanted = launch.opcodes.get(target.architecture, ())
    reasons = []
    if stack_bytes:
        reasons.append(f"spills {stack_bytes} bytes of registers to memory")
    reasons += [f"has no {opcode} instruction" for opcode in wanted if not instructions[opcode]]
    if shared_bytes > target.shared_bytes:
        reasons.append(f"needs {shared_bytes} bytes of shared memory, of which there are {target.shared_bytes}")
    return Compiled(
        kernel=name,
        architecture=target.architecture,
        dtype=dtype,
        config=config,
        status="failed" if reasons else "ok",
        reason="; ".join(reasons),
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=shared_bytes,
        cubin_bytes=len(cubin),
        instructions=dict(sorted(instructions.items())),
    )


def _specialise(launch: Any) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Triton's signature, constants and alignment attributes of a launch, as its launcher derives them at run time."""
    signature, constants, attributes = {}, dict(launch.constants), {}
    for index, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments.get(name)
        if name in constants or (isinstance(value, int) and value == 1):
            signature[name] = "constexpr"
            constants.setdefault(name, value)
            continue
        if isinstance(value, float):
            signature[name] = "fp32"
            continue
        if isinstance(value, int):
            signature[name] = "i32" if value < 2**31 else "i64"
            aligned = value % _ALIGNMENT == 0
        else:
            assert value is not None, f"{launch.kernel.__name__}: no argument {name}"
            signature[name] = f"*{dtype_name(value.dtype)}"
            aligned = value.storage_offset() * value.element_size() % _ALIGNMENT == 0
        if aligned:
            attributes[(index,)] = [["tt.divisibility", _ALIGNMENT]]
    return signature, constants, attributes


def _read_cubin(cubin: bytes, *, disassemble: bool) -> tuple[int, int, Counter[str]]:
    """Registers per thread, bytes of stack per thread (spilled registers; LOCAL is always 0) and, where asked for since
    it takes longest, the number of tensor-core instructions by opcode."""
    import triton.backends.nvidia  # noqa: PLC0415  (see above)

    tool = Path(triton.backends.nvidia.__path__[0]) / "bin" / "cuobjdump"
    options = ["--dump-resource-usage", *(["--dump-sass"] if disassemble else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        text = subprocess.run([tool, *options, path], capture_output=True, text=True, check=True).stdout
    found = _RESOURCES.search(text)
    assert found, text
    return int(found[1]), int(found[2]), Counter(_TENSOR_CORE_OPCODE.findall(text))


def _run_worker(arguments: Sequence[str], on_row: Callable[[Compiled], None] | None) -> dict[int, list[Compiled]]:
    """Start a process for a share of the jobs. Returns its rows by job."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "kernels.compile", *arguments]
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
    """The worker process: compile every `parts`-th job from `part` on and print a JSON line for each row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("architectures", nargs="+", type=int)
    parser.add_argument("--dtypes", nargs="+")
    parser.add_argument("--parts", type=int)
    parser.add_argument("--part", type=int)
    share = parser.parse_args()
    jobs = enumerate(product(MODULES, share.architectures, share.dtypes))
    for job, (name, architecture, dtype) in islice(jobs, share.part, None, share.parts):
        for row in compile_module(importlib.import_module(f"kernels.{name}"), architecture, dtype):
            sys.stdout.write(json.dumps([job, asdict(row)]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _work()

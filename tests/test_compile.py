import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kernels import compile as ahead_of_time
from kernels.__main__ import app
from kernels.catalog import list_implementations
from kernels.precision import TORCH_DTYPES

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]
KERNELS = {
    "matmul_kernel",
    "split_k_reduce_kernel",
    "attention_prefill_kernel",
    "attention_decode_kernel",
    "attention_merge_kernel",
    "append_kernel",
    "stream_read_kernel",
    "stream_write_kernel",
    "stream_copy_kernel",
    "stream_triad_kernel",
    "empty_kernel",
}
FAKE_ROW = ahead_of_time.Compiled("k", 90, "bf16", "c", "ok", "", 10, 0, 20, 30, {"HGMMA": 4})


def run_compiling(code):
    """Run code in a process that does not interpret, as compiling needs."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kernel_compiles_without_spills_to_the_right_instructions():
    # fp16 takes bf16's path in every kernel; `python -m kernels compile` compiles all dtypes.
    rows = ahead_of_time.compile_kernels((80, 90, 100), dtypes=("bf16", "fp32"))
    assert [row for row in rows if row.status == "failed"] == []
    for architecture in (80, 90, 100):
        compiled = {row.kernel for row in rows if row.architecture == architecture and row.status == "ok"}
        assert compiled == KERNELS
    assert all(row.registers and row.cubin_bytes for row in rows if row.status == "ok")
    used = {(row.architecture, opcode) for row in rows for opcode in row.instructions}
    assert used >= {(80, "HMMA"), (90, "HGMMA"), (100, "UTCHMMA")}
    unsupported = [row for row in rows if row.status == "not_supported"]
    assert {row.kernel for row in unsupported} == {"launch"}
    assert all(row.reason for row in unsupported)


def test_a_missing_instruction_a_spill_and_too_much_shared_memory_fail():
    rows = run_compiling("""
import json, sys
from dataclasses import asdict, replace
import torch
from kernels import attention, compile, plan
q = torch.empty(1, 8, 256, 128, dtype=torch.bfloat16, device="meta")
def build(config):
    return attention.plan_prefill(q, q, q, q, config=attention.PrefillConfig(*config))
target = plan.Target(80, 108)
doctored = replace(build((64, 32, 4, 2)), opcodes={80: ("HGMMA",)})
launches = (build((64, 32, 4, 2)), doctored, build((128, 64, 4, 6)))
json.dump([asdict(compile.compile_launch(launch, target, "bf16")) for launch in launches], sys.stdout)
""")
    good, doctored, large = rows
    assert good["status"] == "ok"
    assert (doctored["status"], doctored["reason"]) == ("failed", "has no HGMMA instruction")
    assert large["status"] == "failed"
    assert large["stack_bytes"] > 0
    assert f"spills {large['stack_bytes']} bytes" in large["reason"]
    assert f"needs {large['shared_bytes']} bytes of shared memory" in large["reason"]


def test_unsupported_dtypes_have_reasons():
    modules = [__import__(f"kernels.{name}", fromlist=["_"]) for name in ahead_of_time.MODULES]
    for module in modules:
        assert {*module.SUPPORTED_DTYPES, *module.UNSUPPORTED_DTYPES} == set(TORCH_DTYPES)
        assert not set(module.SUPPORTED_DTYPES) & set(module.UNSUPPORTED_DTYPES)
        assert all(module.UNSUPPORTED_DTYPES.values())


def test_cli_compile_prints_rows_and_fails_with_them(monkeypatch):
    rows = [FAKE_ROW]
    monkeypatch.setattr("kernels.__main__.compile_kernels", lambda architectures, on_row: rows)
    result = CliRunner().invoke(app, ["compile", "--arch", "sm90", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["instructions"] == {"HGMMA": 4}
    rows.append(ahead_of_time.Compiled("k", 90, "fp32", "c", "failed", "spills 8 bytes"))
    result = CliRunner().invoke(app, ["compile", "--arch", "sm90"])
    assert result.exit_code == 1
    assert "spills 8 bytes" in result.stdout


@pytest.mark.parametrize(
    ("arch", "message"), [("sm80,sm70", "unknown architecture sm70"), ("hopper", "like sm80,sm90")]
)
def test_cli_refuses_unknown_architectures_in_one_line(arch, message):
    result = CliRunner().invoke(app, ["compile", "--arch", arch])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_without_triton_pytorch_is_left(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ahead_of_time.CompileError, match="Triton is not installed"):
        ahead_of_time.compile_kernels([90])
    code = """
import json, sys
sys.modules["triton"] = None
import kernels.eager, kernels.reference, kernels.catalog
try:
    import kernels.matmul
except ImportError as error:
    json.dump(str(error), sys.stdout)
"""
    assert "triton" in run_compiling(code)


def test_cli_list_names_every_op():
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert len(rows) == len(list_implementations())
    by_name = {}
    for row in rows:
        by_name.setdefault(row["implementation"], set()).add(row["op"])
    assert len(by_name["triton"]) == len({row["op"] for row in rows}) == 10
    for name in ("op", "dtypes", "sdpa_flash", "sm90"):
        assert name in CliRunner().invoke(app, ["list"]).stdout

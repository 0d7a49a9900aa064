import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kernels import __main__ as kernels_main
from kernels.__main__ import app
from kernels.catalog import list_implementations
from kernels.precision import TORCH_DTYPES
from kernels.triton import compile as ahead_of_time
from kernels.triton import document

pytest.importorskip("triton")
from kernels.triton.plan import Target
from predict.workloads import OPS

ROOT = Path(__file__).parents[3]
FAKE_ROW = ahead_of_time.Compiled(
    "k", "sm90", "bf16", "128x64-w8", default=True, status="compiled", registers=100, stack_bytes=0,
    spill_instructions=0, shared_bytes=20480, instructions={"HGMMA": 4}, occupancy=0.25,
)  # fmt: skip
BEGIN, END = document.BEGIN, document.END


def run_compiling(code):
    """Run code in a process that does not interpret, as compiling needs."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_defaults_compile_without_spills_and_in_order():
    # One format, which one module has: `make compile` compiles all of them, and `make check` runs it.
    rows = ahead_of_time.compile_kernels((90,), dtypes=("tf32",), workers=2)
    compiled = [row for row in rows if row.status == "compiled"]
    assert {row.kernel for row in compiled} >= {"matmul_kernel", "matmul_persistent_kernel"}
    for row in compiled:
        assert row.default
        assert row.arch == "sm90"
        assert 0 < row.registers <= 255
        assert row.stack_bytes == row.spill_instructions == 0
        assert 0 < row.occupancy <= 1
    by_pointers = next(row for row in compiled if row.kernel == "matmul_kernel")
    assert by_pointers.instructions[ahead_of_time.WIDE_LOAD] > 0
    matmul, *others = ahead_of_time.MODULES
    declined = rows[len(compiled) :]
    assert [(row.kernel, row.status) for row in declined] == [(name, "not_supported") for name in others]
    assert matmul == "matmul"
    assert all(row.reason for row in declined)


def test_a_missing_instruction_a_spill_and_too_much_shared_memory_fail():
    rows = run_compiling("""
import json, sys
from dataclasses import asdict, replace
import torch
from kernels.triton import compile, matmul, plan
from kernels.triton.attention import prefill as attention
q = torch.empty(1, 8, 256, 128, dtype=torch.bfloat16, device="meta")
def build(config):
    return attention.plan_attention(q, q, q, q, config=attention.AttentionConfig(*config))[0]
def go(launch, architecture=80, default=True):
    return asdict(compile.compile_launch(launch, plan.Target(architecture, 108), "bf16", default=default))
doctored = replace(build((64, 32, 4, 2)), opcodes={80: ("HGMMA",)})
large = build((128, 64, 4, 6))
a = torch.empty(4096, 4096, dtype=torch.bfloat16, device="meta")
# Eight warps, the host's descriptors: Triton drops the wish to specialize without a word.
config = replace(matmul.WIDE, warp_specialize=True)
ignored, = matmul.plan_matmul(a, a.t(), a, dtype="bf16", config=config, target=plan.Target(90, 132))
json.dump([go(build((64, 32, 4, 2))), go(doctored), go(large), go(large, default=False), go(ignored, 90)], sys.stdout)
""")
    good, doctored, large, other, ignored = rows
    assert good["status"] == "compiled"
    assert (doctored["status"], doctored["reason"]) == ("failed", "has no HGMMA instruction")
    assert large["status"] == "failed"
    assert large["stack_bytes"] > 0
    assert large["spill_instructions"] > 0
    assert f"spills {large['stack_bytes']} bytes of registers by {large['spill_instructions']}" in large["reason"]
    assert f"needs {large['shared_bytes']} bytes of shared memory" in large["reason"]
    assert (other["status"], other["reason"]) == ("not_supported", large["reason"])
    assert (ignored["status"], ignored["reason"]) == ("failed", "has no USETMAXREG instruction")
    assert ignored["instructions"]["HGMMA"] > 0


@pytest.mark.parametrize(
    ("architecture", "registers", "shared_bytes", "warps", "expected"),
    [
        (90, 156, 229_408, 8, 8 / 64),  # 20 units of 256 registers a warp: 12 warps; 228 KiB hold one program
        (80, 64, 51_200, 4, 12 / 64),  # 51 KiB each, of 164: three programs
        (80, 32, 0, 4, 64 / 64),  # 1024 registers a warp: 64 warps, the most there are
        (120, 40, 0, 1, 24 / 48),  # 24 programs are the most there are
        (100, 255, 0, 16, 0.0),  # 8192 registers a warp: eight warps fit, a program of sixteen cannot start
        (80, 32, 170_000, 4, 0.0),
    ],
)
def test_occupancy_by_hand(architecture, registers, shared_bytes, warps, expected):
    assert Target(architecture, 100).occupancy(registers, shared_bytes, warps) == expected


def test_unsupported_dtypes_have_reasons():
    modules = [__import__(f"kernels.triton.{name}", fromlist=["_"]) for name in ahead_of_time.MODULES]
    for module in modules:
        assert {*module.SUPPORTED_DTYPES, *module.UNSUPPORTED_DTYPES} == set(TORCH_DTYPES)
        assert not set(module.SUPPORTED_DTYPES) & set(module.UNSUPPORTED_DTYPES)
        assert all(module.UNSUPPORTED_DTYPES.values())


@pytest.fixture
def rows(monkeypatch):
    rows = [FAKE_ROW]
    monkeypatch.setattr("kernels.triton.compile.compile_kernels", lambda architectures, every, on_row: rows)
    return rows


def test_cli_compile_prints_rows_and_fails_with_them(rows):
    result = CliRunner().invoke(app, ["compile", "--arch", "sm90", "--json"])
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert row["instructions"] == {"HGMMA": 4}
    assert (row["arch"], row["default"], row["occupancy"], row["spill_instructions"]) == ("sm90", True, 0.25, 0)
    rows.append(replace(FAKE_ROW, dtype="fp32", status="failed", reason="spills 8 bytes"))
    result = CliRunner().invoke(app, ["compile", "--arch", "sm90"])
    assert result.exit_code == 1
    assert "spills 8 bytes" in result.stdout
    rows[1] = replace(rows[1], status="not_supported")
    assert CliRunner().invoke(app, ["compile", "--arch", "sm90"]).exit_code == 0


def test_a_document_takes_the_tables_and_is_held_to_them(rows, tmp_path):
    rows.append(replace(FAKE_ROW, dtype="fp16"))
    rows.append(replace(FAKE_ROW, dtype="fp8", registers=120))
    rows.append(replace(FAKE_ROW, dtype="fp64", status="not_supported", reason="too wide", kernel="matmul"))
    rows.append(replace(FAKE_ROW, default=False, config="other"))
    path = tmp_path / "kernels.md"
    path.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    check = ["compile", "--check-docs", str(path)]
    assert CliRunner().invoke(app, check).exit_code == 1
    assert CliRunner().invoke(app, ["compile", "--write-docs", str(path)]).exit_code == 0
    text = path.read_text()
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "old" not in text
    # The main configuration is the first in bf16; three rows are compiled, with 100 to 120 registers.
    main = "| `k` | sm90 | 128x64-w8 bf16 | 100 | 20,480 | 25% | 4 HGMMA | 3 in bf16 fp16 fp8 | 100-120 | "
    assert main in text
    assert "- fp64 in `matmul.py`: too wide" in text
    assert "other" not in text
    assert CliRunner().invoke(app, check).exit_code == 0


@pytest.mark.parametrize(
    ("index", "change", "differing"),
    [
        (0, {"registers": 101}, "`k` sm90"),
        (1, {"registers": 105}, "`k` sm90"),  # neither shown nor an end of the range
        (1, {"spill_instructions": 2}, "`k` sm90"),
        (1, {"shared_bytes": 20481}, "`k` sm90"),
        (2, {"instructions": {}}, "`k` sm90"),
        (2, {"config": "64x64-w8"}, "`k` sm90"),
        (
            2,
            {"status": "not_supported", "reason": "no fp8", "kernel": "matmul", "registers": None},
            "`k` sm90; .*no fp8",
        ),
        (3, {"reason": "too slow"}, "fp64 in `matmul.py`: too wide; - fp64 in `matmul.py`: too slow"),
    ],
)
def test_a_document_notices_any_change(rows, tmp_path, index, change, differing):
    rows.append(replace(FAKE_ROW, dtype="fp16"))
    rows.append(replace(FAKE_ROW, dtype="fp8", registers=120))
    rows.append(replace(FAKE_ROW, dtype="fp64", status="not_supported", reason="too wide", kernel="matmul"))
    path = tmp_path / "kernels.md"
    path.write_text(f"{BEGIN}\n{END}")
    assert CliRunner().invoke(app, ["compile", "--write-docs", str(path)]).exit_code == 0
    rows[index] = replace(rows[index], **change)
    result = CliRunner().invoke(app, ["compile", "--check-docs", str(path)])
    assert result.exit_code == 1
    assert re.search(f"differs in .*{differing}", result.stderr)
    assert f"To write it again: --write-docs {path}" in result.stderr


def test_a_document_of_another_triton_is_not_compared_and_that_is_said(rows, tmp_path, monkeypatch):
    """Another compiler allots other registers; what fails still fails."""
    path = tmp_path / "kernels.md"
    path.write_text(f"{BEGIN}\n{END}")
    monkeypatch.setattr(kernels_main, "package_version", lambda _: "9.0")
    assert CliRunner().invoke(app, ["compile", "--write-docs", str(path)]).exit_code == 0
    monkeypatch.setattr(kernels_main, "package_version", lambda _: "9.1")
    rows[0] = replace(FAKE_ROW, registers=101)
    check = ["compile", "--check-docs", str(path)]
    result = CliRunner().invoke(app, check)
    assert result.exit_code == 0
    assert f"{path} is of Triton 9.0, this is 9.1: its tables were not compared" in result.stderr
    rows[0] = replace(FAKE_ROW, status="failed", reason="spills 8 bytes")
    assert CliRunner().invoke(app, check).exit_code == 1


def test_a_document_without_marks_is_refused_in_one_line(rows, tmp_path):
    path = tmp_path / "kernels.md"
    for text in ("", f"{END}\n{BEGIN}", BEGIN):
        path.write_text(text)
        result = CliRunner().invoke(app, ["compile", "--write-docs", str(path)])
        assert result.exit_code == 2
        assert "has no place for the tables" in result.stderr
        assert path.read_text() == text
    assert CliRunner().invoke(app, ["compile", "--check-docs", str(tmp_path / "none.md")]).exit_code == 2


def test_a_document_is_refused_before_anything_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr("kernels.triton.compile.compile_kernels", lambda *_, **__: pytest.fail("compiled first"))
    for option in ("--write-docs", "--check-docs"):
        result = CliRunner().invoke(app, ["compile", option, str(tmp_path / "none.md")])
        assert (result.exit_code, result.stderr) == (2, f"error: {tmp_path / 'none.md'}: No such file or directory\n")


@pytest.mark.parametrize("arguments", [["nope"], ["list", "--nope"], ["compile", "--dtype", "q"]])
def test_a_command_line_that_cannot_be_read_is_one_line(arguments, refusal):
    assert "--help" in refusal(app, *arguments)


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
import kernels.pytorch.eager, kernels.reference, kernels.catalog
try:
    import kernels.triton.matmul
except ImportError as error:
    json.dump(str(error), sys.stdout)
"""
    assert "triton" in run_compiling(code)


def test_cli_list_names_every_op():
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert len(rows) == len(list_implementations())
    assert {row["op"] for row in rows} == OPS.keys()
    for name in ("op", "dtypes", "sdpa_flash", "sm90"):
        assert name in CliRunner().invoke(app, ["list"]).stdout

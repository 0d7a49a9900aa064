"""A GPU from a file: what is read, and one line for each way in which a file is wrong."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predict import estimate
from predict.__main__ import app
from predict.errors import BadGpu, BadQuantity, NapkinError
from predict.gpus import Gpu, NvidiaGpu, resolve, resolve_all
from predict.resources import Resource

ROOT = Path(__file__).resolve().parents[3]
RUNNER = CliRunner()
GOOD = {"peaks": {"bf16": 1e14}, "memory": "80GB", "bandwidth": "2TB/s", "sources": "the datasheet"}


def written(folder: Path, given: object, name: str = "my-gpu.json") -> str:
    file = folder / name
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    return str(file)


def documented_block() -> str:
    blocks = re.findall(
        r"^```json\n(.*?)^```$", (ROOT / "docs" / "predict.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (block,) = (block for block in blocks if '"peaks"' in block)
    return str(block)


def test_the_file_in_the_documents_is_read_as_it_says(tmp_path):
    gpu = resolve(written(tmp_path, documented_block()))
    assert not isinstance(gpu, NvidiaGpu)
    assert {unit: roof.per_s for unit, roof in gpu.roofs.items()} == {
        Resource.TENSOR_BF16: 400e12,
        Resource.TENSOR_FP8: 800e12,
        Resource.VECTOR_FP32: 50e12,
        Resource.DRAM: 4e12,
    }
    assert (gpu.name, gpu.memory.bytes, gpu.link_bytes_per_s, gpu.gpus_per_node) == ("my-gpu", 96 * 10**9, 200e9, 8)
    assert (gpu.link_reduces, gpu.network_bytes_per_s, gpu.power_w) == (None, None, 600)
    assert {roof.source for roof in gpu.roofs.values()} == {gpu.source} == {"the vendor's datasheet, dense figures"}


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("989e12", 989e12),
        ("989T", 989e12),
        ("989 TFLOPS", 989e12),
        ("989TFLOP/s", 989e12),
        ("989 TOPS", 989e12),
        ("0.989 PFLOP/s", 989e12),
        (989e12, 989e12),
    ],
)
def test_peaks_are_read_as_people_write_them(tmp_path, text, per_s):
    gpu = resolve(written(tmp_path, {**GOOD, "peaks": {"bf16": text}}))
    assert gpu.roofs[Resource.TENSOR_BF16].per_s == per_s


@pytest.mark.parametrize(
    ("text", "size"), [("80GB", 80e9), ("80 GiB", 80 * 2**30), ("81559MiB", 81559 * 2**20), (80e9, 80e9)]
)
def test_memory_is_read_as_people_write_it(tmp_path, text, size):
    assert resolve(written(tmp_path, {**GOOD, "memory": text})).memory.bytes == size


@pytest.mark.parametrize(("text", "power_w"), [("700W", 700), ("1.4 kW", 1400), (700, 700)])
def test_power_is_read_as_people_write_it(tmp_path, text, power_w):
    assert resolve(written(tmp_path, {**GOOD, "power": text})).power_w == power_w


def test_the_units_of_the_listing_are_peaks_too(tmp_path):
    peaks = {"tensor.bf16": 1e14, "vector.fp64": 1e13}
    assert resolve(written(tmp_path, {**GOOD, "peaks": peaks})).roofs.keys() == {
        Resource.TENSOR_BF16,
        Resource.VECTOR_FP64,
        Resource.DRAM,
    }


def test_each_number_may_have_its_own_source(tmp_path):
    sources = {"peaks": "a", "fp8": "b", "memory": "c", "bandwidth": "d", "link": "c"}
    given = {"peaks": {"bf16": 1e14, "fp8": 2e14}, "memory": "80GB", "bandwidth": "2TB/s", "link": "1e11"}
    gpu = resolve(written(tmp_path, {**given, "sources": sources}))
    found = {unit: roof.source for unit, roof in gpu.roofs.items()}
    assert found == {Resource.TENSOR_BF16: "a", Resource.TENSOR_FP8: "b", Resource.DRAM: "d"}
    assert gpu.source == "c"


def test_the_name_is_the_files_if_it_gives_none(tmp_path):
    file = written(tmp_path, GOOD, "cluster-7.json")
    assert resolve(file).name == "cluster-7"
    assert [gpu.name for gpu in resolve_all(f" {file} ")] == ["cluster-7"]


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (without("peaks"), "lacks peaks: a prediction needs it"),
        (without("memory"), "lacks memory"),
        (without("bandwidth"), "lacks bandwidth"),
        (without("sources"), "lacks sources: say where the numbers come from"),
        ({**GOOD, "bandwith": 1e12}, "unknown key 'bandwith': did you mean bandwidth?"),
        ({**GOOD, "peaks": {}}, "peaks must be an object"),
        ({**GOOD, "peaks": 1e14}, "peaks must be an object"),
        ({**GOOD, "peaks": {"bf17": 1e14}}, "peaks has an unknown key 'bf17'; known: fp64, "),
        ({**GOOD, "peaks": {"bf16": 1e14, "tensor.bf16": 1e14}}, "peaks gives tensor.bf16 twice"),
        ({**GOOD, "peaks": {"bf16": -1e14}}, "peaks.bf16 must be positive, not -1e+14"),
        ({**GOOD, "peaks": {"bf16": 0}}, "peaks.bf16 must be positive, not 0"),
        ({**GOOD, "peaks": {"bf16": float("nan")}}, "peaks.bf16 must be positive, not nan"),
        ({**GOOD, "peaks": {"bf16": "fast"}}, "peaks.bf16 must be a number such as"),
        ({**GOOD, "peaks": {"bf16": [1e14]}}, "peaks.bf16 must be a number, or a text such as"),
        ({**GOOD, "peaks": {"bf16": 989}}, "peaks.bf16 is 989, less than any GPU has; write its unit"),
        ({**GOOD, "memory": 80}, "memory is 80, less than any GPU has; write its unit"),
        ({**GOOD, "memory": True}, "memory must be a number"),
        ({**GOOD, "memory": "-80GB"}, "memory must be positive, not -8e+10"),
        ({**GOOD, "bandwidth": None}, "bandwidth must be a number"),
        ({**GOOD, "link": "fast"}, "link must be a number such as"),
        ({**GOOD, "link_reduces": "yes"}, "link_reduces must be true or false, not 'yes'"),
        ({**GOOD, "gpus_per_node": 1.5}, "gpus_per_node must be a positive whole number, not 1.5"),
        ({**GOOD, "gpus_per_node": 0}, "gpus_per_node must be a positive whole number, not 0"),
        ({**GOOD, "power": "700 V"}, "power must be a number such as 700, 700W"),
        ({**GOOD, "sources": ""}, "sources must be a text that is not empty"),
        ({**GOOD, "sources": ["a"]}, "sources must be a text, or an object"),
        ({**GOOD, "sources": {"peaks": "a", "memory": "b"}}, "sources lacks bandwidth"),
        ({**GOOD, "sources": {"peaks": "a", "memory": "b", "bandwidth": 1}}, "sources.bandwidth must be a text"),
        ({**GOOD, "sources": {"peak": "a"}}, "sources has an unknown key 'peak': did you mean peaks?"),
        ({**GOOD, "name": "h100"}, "name 'h100' is that of h100-sxm in the table"),
        ({**GOOD, "name": "H100 SXM"}, "name 'H100 SXM' is that of h100-sxm in the table"),
        ({**GOOD, "name": 7}, "name must be a text"),
        ([GOOD], "must hold one JSON object with peaks, memory, bandwidth, sources"),
        ('{"peaks": 1, "peaks": 2}', "peaks is given twice"),
        ('{"peaks": ', "is not valid JSON (line 1"),
        ("[" * 100_000, "is not a readable JSON file"),
        (" " * 1_000_001, "has more than 1000000 bytes"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it_and_the_field(tmp_path, given, message):
    file = written(tmp_path, given)
    with pytest.raises((BadGpu, BadQuantity)) as caught:
        resolve(file)
    assert message in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path):
    with pytest.raises(BadGpu, match=r"^cannot read .*none\.json: No such file"):
        resolve(str(tmp_path / "none.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(BadGpu, match=r"^cannot read .*folder\.json: "):
        resolve(str(tmp_path / "folder.json"))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadGpu, match="is not a readable JSON file"):
        resolve(str(tmp_path / "bytes.json"))


@pytest.mark.parametrize(
    ("unit", "sparse", "bandwidth", "known"),
    # What datasheets print "with sparsity", beside the bandwidth of the same datasheet.
    [
        ("bf16", "1979e12", "3.35TB/s", "h100-sxm"),
        ("fp8", "3958e12", "4.8TB/s", "h200-sxm"),
        ("bf16", "624e12", "2039GB/s", "a100-sxm-80gb"),
        ("bf16", "2614.9e12", "5.3TB/s", "mi300x"),
    ],
)
def test_a_figure_with_sparsity_is_refused(tmp_path, unit, sparse, bandwidth, known):
    file = written(tmp_path, {**GOOD, "peaks": {unit: sparse}, "bandwidth": bandwidth})
    with pytest.raises(BadGpu, match=rf"peaks\.{unit} is the figure of {known} with sparsity; a dense peak is needed"):
        resolve(file)


def test_a_dense_figure_that_is_twice_that_of_another_card_is_not(tmp_path):
    # The L40 does half of what the L40S does, with the same memory.
    gpu = resolve(written(tmp_path, {**GOOD, "peaks": {"bf16": "362e12"}, "bandwidth": "864GB/s"}))
    assert gpu.roofs[Resource.TENSOR_BF16].per_s == 362e12


def test_a_kernel_and_a_model_are_predicted_for_it(tmp_path):
    file = written(tmp_path, {**GOOD, "link": "100GB/s"})
    result = RUNNER.invoke(app, ["kernel", "matmul", "m=8192", "n=8192", "k=8192", "--gpu", file, "--explain"])
    assert result.exit_code == 0, result.output
    # 2 x 8192^3 FLOP at 1e14 per second: 10.995 ms; 3 x 8192^2 x 2 bytes at 2 TB/s: 0.2 ms.
    assert "matmul-m8192-n8192-k8192-bf16 on my-gpu    napkin 11.0 ms    bound: tensor.bf16" in result.output
    assert "tensor.bf16: the datasheet" in result.output
    found = estimate("llama-3-8b", gpu=file, gpus=2, batch=1, context=0)
    # No expected time; 80 GB are what the file says, so nothing tells of other gigabytes.
    assert "tpot_expected_s" not in found
    assert not any("the driver reports" in note for note in found.notes)
    assert isinstance(found.question.gpu, Gpu)


def test_the_command_refuses_a_wrong_file(tmp_path):
    result = RUNNER.invoke(app, ["model", "llama-3-8b", "--gpu", written(tmp_path, without("memory"))])
    assert isinstance(result.exception, NapkinError)

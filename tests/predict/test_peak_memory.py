"""Memory at its fullest: as arithmetic, as it is measured on a CUDA that is made up, and as tables show it."""

import dataclasses
import functools
import json
import math

import pytest
import torch

from bench import lab as lab_module
from bench import peak_memory
from bench.cases import bind, find_implementation, make_inputs
from bench.lab import Job, Lab
from bench.record import Status, from_line, to_line
from bench.sampling import Budget
from bench.suites import GPT2_SMALL_BLOCK, LLAMA3_8B_BLOCK
from predict.peak_memory import LOOPS, Scores, peak_bytes, saved_activation_bytes, score_bytes
from predict.peak_memory import operand_bytes as predicted_operands
from predict.units import find_dtype
from predict.workloads import OPS, dim_names, make_workload
from reports.run.frame import to_frame
from reports.run.tables import op_tables
from tests.factories import make_record
from tests.fakes import FakeTimer, cpu_environment

TINY = {"heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 24}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HEADS = {"batch": 2, "heads": 8, "kv_heads": 2, "head_dim": 64}


def workload(op, dtype="bf16", **dims):
    return make_workload(op, dims, find_dtype(dtype))


# The napkin.


def test_a_matmul_needs_its_operands():
    # 3x5 and 5x4 in, 3x4 out: 47 elements.
    assert peak_bytes(workload("matmul", m=3, n=4, k=5)) == 2 * 47
    assert peak_bytes(workload("matmul", m=3, n=4, k=5), Scores.STORED) == 2 * 47  # stores scores where there are some


def test_a_cache_that_is_appended_to_is_held_once():
    # x and the result 2*8, the weight 16x8, K and V of 5 tokens: 2 * 2*5*4; Q, K and V of the new token 2*16.
    found = peak_bytes(workload("generate_cached", batch=2, context=5, heads=2, kv_heads=1, head_dim=4))
    assert found == 2 * (16 + 16 + 128 + 80 + 32)


def test_without_a_cache_q_k_and_v_of_all_tokens_lie_between_two_kernels():
    # x and the result 10*8, the weight 16x8, Q, K and V 10*16.
    found = peak_bytes(workload("generate_uncached", batch=2, context=5, heads=2, kv_heads=1, head_dim=4))
    assert found == 2 * (80 + 80 + 128 + 160)


def test_stored_scores_grow_with_the_square_of_the_prompt_and_fused_attention_with_the_prompt():
    def grows(scores, seq):
        short, long = (
            peak_bytes(workload("attention_prefill", seq=length, **HEADS), scores) for length in (seq, 2 * seq)
        )
        return long / short

    for seq in (1024, 65536):
        assert grows(Scores.ON_CHIP, seq) == 2
    assert grows(Scores.STORED, 65536) == pytest.approx(4, rel=1e-2)
    assert grows(Scores.WIDE, 65536) == pytest.approx(4, rel=1e-2)
    # At 8192 tokens: 2 sequences, 8 heads, 2^26 scores each, and their softmax beside them, 2 bytes: 4 GiB.
    at_8192 = workload("attention_prefill", seq=8192, **HEADS)
    assert peak_bytes(at_8192, Scores.STORED) - peak_bytes(at_8192) == 2 * score_bytes(at_8192) == 4 * 2**30


def test_scores_of_other_kinds_of_attention():
    chunk = workload("attention_chunk", queries=4, context=100, **HEADS)
    decode = workload("attention_decode", context=100, **HEADS)
    assert score_bytes(chunk) == 2 * 8 * 4 * 100 * 2
    assert score_bytes(decode) == 2 * 8 * 100 * 2
    assert score_bytes(workload("rmsnorm", rows=2, cols=2)) == 0
    # 11 tokens in 3 prompts: the longest has 4, and they go one after the other.
    assert score_bytes(workload("attention_packed", sequences=3, tokens=11, heads=8, kv_heads=2, head_dim=64)) == 256
    mla = workload("attention_mla", batch=2, context=100, heads=8, latent=32, rope=8)
    assert score_bytes(mla) == 2 * 8 * 100 * 2
    assert peak_bytes(mla, Scores.STORED) - peak_bytes(mla) == 2 * score_bytes(mla)


def test_the_math_back_end_stores_scores_in_fp32_and_a_backward_pass_three_of_them():
    prompt = {"seq": 1024, **HEADS}
    for dtype, wider in (("bf16", 2), ("fp32", 1), ("fp64", 1)):
        causal = workload("attention_prefill", dtype, **prompt)
        assert peak_bytes(causal, Scores.WIDE) - peak_bytes(causal) == 2 * wider * score_bytes(causal)
    # Three: weights, their gradients and the products of both, before there are outputs.
    backward = workload("attention_backward", **prompt)
    assert peak_bytes(backward, Scores.STORED) == backward.amounts.bytes_read + 3 * 2 * 8 * 1024 * 1024 * 2
    # At 16 tokens the outputs are larger than scores: 2*8*16*16 of them, and 2*16*64 times 8 + 2*2.
    short = workload("attention_backward", **{**prompt, "seq": 16})
    assert peak_bytes(short, Scores.STORED) == short.amounts.bytes + 2 * 2 * 8 * 16 * 16 * 2


def test_a_forward_pass_holds_weights_and_the_widest_place_between_two_kernels():
    # hidden 8: 192 + 3*8*24 = 768 elements of matrices, norms 16. 6 tokens: x 48, cos and sin 24. Between gate and up
    # and their product: 8 of the residual, 48 and 24, for each of 6 tokens.
    found = peak_bytes(workload("block_forward", batch=2, seq=3, **TINY))
    assert found == 2 * (784 + 48 + 24 + 6 * 80)
    # With an MLP of 2: 192 + 48. Widest is attention: Q, K and V of 16, and its output of 8.
    narrow = workload("block_forward", batch=2, seq=3, **{**TINY, "inner": 2})
    assert peak_bytes(narrow) == 2 * (240 + 16 + 48 + 24 + 6 * 24)
    # With an MLP of 7: 192 + 168. Widest is before SwiGLU: the residual and the operand of 8, gate and up of 14.
    narrow = workload("block_forward", batch=2, seq=3, **{**TINY, "inner": 7})
    assert peak_bytes(narrow) == 2 * (360 + 16 + 48 + 24 + 6 * 30)
    # One token for each of 2 sequences, and a cache of 5: 2 * 2*5*4.
    found = peak_bytes(workload("block_decode", batch=2, context=5, **TINY))
    assert found == 2 * (784 + 16 + 8 + 80 + 2 * 80)


def test_a_block_of_gpt2_holds_no_gate_and_no_angles():
    # hidden 10, heads of 8: 240 elements of projections, up and down of 24: 480; norms 4*10. 6 tokens of 10. Widest is
    # GELU: the residual of 10, its operand and its result of 24 each.
    plain = {**TINY, "hidden": 10, "matrices": 2}
    assert peak_bytes(workload("block_forward", batch=2, seq=3, **plain)) == 2 * (760 + 60 + 6 * 58)
    # With an MLP of 2: 240 + 40. Widest is attention: Q, K and V of 16, its output of 8.
    narrow = workload("block_forward", batch=2, seq=3, **{**plain, "inner": 2})
    assert peak_bytes(narrow) == 2 * (320 + 60 + 6 * 24)


def test_training_holds_16_bytes_a_parameter():
    # 784 parameters: 2 bytes of weights, 4 each of master, m and v, 2 of gradients. 6 tokens of 8: x, the gradient of
    # the output, the output, the gradient of x; cos and sin 24.
    trained = workload("block_train", batch=2, seq=3, **TINY)
    assert peak_bytes(trained) == 784 * 16 + 2 * (4 * 48 + 24)


def test_a_long_prompt_is_at_its_fullest_when_the_backward_pass_begins():
    # For each token: norms, attention's output and the sum 4*8, Q, K and V 16, gate, up and product 72, in 16 bits;
    # 2 heads and 2 norms in fp32. x, the gradient of the output, cos, sin and the output beside it.
    seq = 10_000
    trained = workload("block_train", batch=1, seq=seq, **TINY)
    assert saved_activation_bytes(trained) == seq * (2 * (32 + 16 + 72) + 16)
    assert peak_bytes(trained) == 784 * 14 + seq * (2 * (8 + 8 + 4) + 2 * 8 + 256)


def test_layers_keep_their_activations_or_only_their_inputs():
    # A token of a layer keeps 2*(32 + 16 + 72) + 16 = 256 bytes; between layers lie 8 numbers of 2 bytes.
    seq = 10_000
    kept, again = (
        workload("block_train", batch=1, seq=seq, **TINY, layers=3, forwards=forwards) for forwards in (1, 2)
    )
    assert saved_activation_bytes(kept) == seq * (3 * 256 + 2 * 16)
    assert saved_activation_bytes(again) == seq * (256 + 2 * 16)
    # x, the gradient of the output, cos and sin 2*20; the output 2*8.
    state = 3 * 784 * 14
    assert peak_bytes(kept) == state + seq * (40 + 16 + 3 * 256 + 2 * 16)
    assert peak_bytes(again) == state + seq * (40 + 16 + 256 + 2 * 16)


def test_few_tokens_of_many_layers_are_at_their_fullest_at_the_first_layer_or_the_end():
    # One token: 256 bytes of activations are less than a layer's 784 gradients of 2 bytes: all gradients, x's, the
    # output, at the end.
    few = workload("block_train", batch=1, seq=1, **TINY, layers=3)
    assert peak_bytes(few) == 3 * 784 * 16 + 2 * 20 + 2 * 2 * 8
    # Ten tokens: 2560 are more: the gradients of two layers, what the first one keeps, its gradient, the output.
    more = workload("block_train", batch=1, seq=10, **TINY, layers=3, forwards=2)
    assert peak_bytes(more) == 3 * 784 * 14 + 10 * 2 * 20 + 2 * 10 * 16 + 2560 + 2 * 784 * 2


def test_a_layer_of_llama_keeps_128_kib_a_token():
    # 5*4096 + 2*1024 + 3*14336 = 65536 elements, and 32 + 2 numbers in fp32.
    assert saved_activation_bytes(workload("block_train", batch=1, seq=1, **LLAMA3_8B_BLOCK)) == 128 * 1024 + 136


@pytest.mark.parametrize("model", [GPT2_SMALL_BLOCK, LLAMA3_8B_BLOCK])
@pytest.mark.parametrize("op", ["block_forward", "block_decode", "block_train"])
def test_no_block_needs_less_than_its_operands(op, model):
    length = {"context": 8192} if op == "block_decode" else {"seq": 4096}
    whole = workload(op, batch=8, **length, **model)
    assert peak_bytes(whole) >= operand_bytes(whole)


def operand_bytes(whole):
    """What is read and written, but for a state that is updated in place, which is both."""
    if whole.op in LOOPS:  # which read the same inputs again and again
        return predicted_operands(whole)
    if whole.op != "block_train":
        return whole.amounts.bytes
    return whole.amounts.bytes_read + 2 * 2 * math.prod(
        whole.dims[name] for name in ("batch", "seq", "heads", "head_dim")
    )


def test_every_op_has_an_answer():
    dims = {"kv_heads": 2, "heads": 4, "head_dim": 64, "k": 256, "queries": 2, "sequences": 2}
    for op in OPS:
        names = dim_names(op)
        found = workload(
            op, "int8" if op == "matmul_scaled" else "bf16", **{name: dims.get(name, 16) for name in names}
        )
        assert peak_bytes(found) >= operand_bytes(found)


# As it is measured.


class FakeAllocator:
    """Counts what is allocated, and the most of it."""

    def __init__(self, monkeypatch, allocated):
        self.allocated = self.most = allocated
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: self.allocated)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: self.most)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", self.reset)

    def reset(self):
        self.most = self.allocated

    def take(self, size_bytes):
        self.allocated += size_bytes
        self.most = max(self.most, self.allocated)


class Block:
    """Memory that is freed when it is forgotten."""

    def __init__(self, allocator, size_bytes):
        self.allocator, self.size_bytes = allocator, size_bytes
        allocator.take(size_bytes)

    def __del__(self):
        self.allocator.take(-self.size_bytes)


def test_a_call_needs_inputs_output_and_workspace_at_its_fullest(monkeypatch):
    allocator = FakeAllocator(monkeypatch, 5000)  # of which its inputs are 1000
    allocator.take(10_000)
    allocator.take(-10_000)  # an earlier peak does not count

    def run():
        output = Block(allocator, 300)
        first = Block(allocator, 70)
        del first
        second = Block(allocator, 50)
        del second
        return output

    for _ in range(2):
        assert peak_memory.measure_peak_bytes(run, 1000, CUDA) == 1000 + 300 + 70
        assert allocator.allocated == 5000


def test_a_result_counts_even_where_all_of_it_is_returned_at_the_end(monkeypatch):
    allocator = FakeAllocator(monkeypatch, 0)
    assert peak_memory.measure_peak_bytes(lambda: Block(allocator, 7), 1, CUDA) == 8


SMALL = workload("matmul", "fp32", m=4, n=8, k=16)


class CudaLab(Lab):
    """Believes that it is on a GPU, once its inputs are made."""

    def time(self, subject):
        self._device = torch.device("cuda")
        return super().time(subject)

    def _free_bytes(self):
        return 2**40


def test_a_cpu_counts_what_pytorch_allocates_and_frees(capfd):
    size = 100_000  # of a tensor, in numbers of 4 bytes

    def run():
        first = torch.empty(3 * size)
        del first
        output = torch.empty(size)
        second = torch.empty(size)
        del second
        return output

    for _ in range(2):
        assert peak_memory.measure_peak_bytes(run, 1000, CPU) == 1000 + 4 * 3 * size
    assert peak_memory.measure_peak_bytes(lambda: None, 1000, CPU) == 1000
    assert capfd.readouterr() == ("", "")  # of what the profiler prints


def test_a_step_of_training_on_a_cpu_holds_what_is_predicted_and_a_gradient_in_fp32():
    trained = workload("block_train", batch=1, seq=16, heads=8, kv_heads=4, head_dim=32, inner=512)
    outcome = Lab(cpu_environment(), FakeTimer(), Budget(), monitor=None).run(Job(trained, "torch"))
    parameters = 3 * 256 * 512 + 256 * (2 * 256 + 2 * 128) + 2 * 256
    assert outcome.measurement.peak_bytes == pytest.approx(peak_bytes(trained) + 4 * parameters, rel=0.02)


def test_memory_is_measured_before_the_time(monkeypatch):
    calls = []

    def measured(run, set_bytes, device):
        calls.append((run(), set_bytes))
        return 12345

    monkeypatch.setattr(lab_module, "measure_peak_bytes", measured)
    monkeypatch.setattr(
        lab_module, "make_inputs", lambda *_, index: make_inputs(SMALL, torch.device("cpu"), index=index)
    )
    timer = FakeTimer()
    outcome = CudaLab(cpu_environment(), timer, Budget(), monitor=None).run(Job(SMALL, "torch"))
    assert outcome.measurement.peak_bytes == 12345
    ((result, set_bytes),) = calls
    assert (result.shape, set_bytes) == ((4, 8), 4 * (4 * 16 + 16 * 8))
    assert timer.preparations[0].set_bytes == set_bytes


@pytest.mark.gpu
def test_a_product_on_a_gpu_needs_its_operands(device):
    a, b = (torch.randn(4096, 4096, device=device) for _ in range(2))
    torch.mm(a, b)  # cuBLAS sets up its workspace
    found = peak_memory.measure_peak_bytes(lambda: torch.mm(a, b), a.nbytes + b.nbytes, device)
    assert found == 3 * 4096 * 4096 * 4


@pytest.mark.gpu
def test_scores_on_a_gpu_are_as_large_as_predicted(device):
    for seq in (1024, 2048):
        prompt = workload("attention_prefill", seq=seq, **HEADS)
        inputs = make_inputs(prompt, device, index=0)
        for name, scores in (("naive", Scores.STORED), ("sdpa_flash", Scores.ON_CHIP)):
            run = functools.partial(bind(find_implementation(prompt, name, "cuda").run, prompt), *inputs)
            run()
            found = peak_memory.measure_peak_bytes(run, sum(each.nbytes for each in inputs), device)
            assert peak_bytes(prompt, scores) <= found <= 1.1 * peak_bytes(prompt, scores)  # a mask, a log-sum-exp


# What is appended in place is spoilt before the check.


@pytest.mark.parametrize("op", ["block_decode", "generate_cached"])
def test_an_implementation_that_appends_nothing_is_caught_after_one_that_does(op, monkeypatch):
    dims = {"batch": 2, "context": 9, "heads": 4, "kv_heads": 2, "head_dim": 16}
    asked = workload(op, "fp32", **dims, **({"inner": 24} if op == "block_decode" else {}))
    bench = Lab(cpu_environment(), FakeTimer(), Budget(), monitor=None)
    assert bench.run(Job(asked, "torch")).status is Status.MEASURED
    row = lab_module.find_implementation(asked, "torch", "cpu")

    def forgets(*inputs):
        *others, k_cache, v_cache = inputs
        apart = (*others, k_cache.clone(), v_cache.clone())
        result = row.run(*(row.prepare(*apart) if row.prepare else apart))
        if op == "generate_cached":
            return result + 0 * (k_cache[:, :, -1].sum() + v_cache[:, :, -1].sum())  # as if it read them
        return result[0], k_cache[:, :, -1], v_cache[:, :, -1]

    monkeypatch.setattr(
        lab_module, "find_implementation", lambda *_: dataclasses.replace(row, run=forgets, prepare=None)
    )
    assert bench.run(Job(asked, "torch")).status is Status.INCORRECT


# As it is read.


def with_memory(record, size_bytes):
    return dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, peak_bytes=size_bytes))


def test_measured_memory_survives_and_older_lines_have_none():
    record = with_memory(make_record(), 3 * 2**30)
    assert from_line(to_line(record)) == record
    data = json.loads(to_line(record))
    del data["measurement"]["peak_bytes"]
    assert from_line(json.dumps(data)) == make_record()


def test_the_frame_holds_both_and_nothing_where_it_was_not_measured():
    frame = to_frame([with_memory(make_record(), 12345), make_record(), make_record(status=Status.OUT_OF_MEMORY)])
    assert frame["peak_bytes"].tolist()[0] == 12345
    assert all(math.isnan(each) for each in frame["peak_bytes"].tolist()[1:])
    assert frame["predicted_peak_bytes"].tolist() == [134_742_016.0] * 3


def test_a_table_shows_memory_only_where_some_was_measured():
    (plain,) = op_tables(to_frame([make_record()]))
    assert not [title for title in plain.titles if "memory" in title]
    prompt = {"batch": 1, "seq": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128}
    records = [
        with_memory(make_record("attention_prefill", prompt, implementation="sdpa_flash"), 170 * 2**20),
        make_record("attention_prefill", prompt, implementation="naive", status=Status.OUT_OF_MEMORY),
    ]
    (table,) = op_tables(to_frame(records))
    rows = {row[0]: dict(zip(table.titles, row, strict=True)) for row in table.rows}
    # Q and O 64 MiB each, K and V 16 MiB each; 32 heads of 2^26 scores, twice, in 16 bits: 8 GiB.
    assert (rows["sdpa_flash"]["predicted memory"], rows["sdpa_flash"]["peak memory"]) == ("160 MiB", "170 MiB")
    assert (rows["naive"]["predicted memory"], rows["naive"]["peak memory"]) == ("8.156 GiB", "")

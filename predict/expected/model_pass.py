"""Expected time of a whole pass: the sum of the calibrated times of its kernels, as serving engines launch them.

The matmuls are those of `predict.model.products`. Each element-wise kernel (two norms, rotary positions, activation)
takes a launch and its bytes. Tensor parallelism inside a node adds two all-reduces per layer. Only dense models with
plain attention: engines differ in how they group experts and expand latents, and neither is calibrated.
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import find_known
from predict.expected.kernel import expect
from predict.expected.time_model import Calibration, Machine
from predict.model.attention import Attention
from predict.model.kinds import KernelKind, kind_of_component
from predict.model.mlp import Mlp
from predict.model.passes import Logits
from predict.model.products import heads_on_gpu, products
from predict.model.reach import Everything, Window
from predict.model.replica import Replica
from predict.model.transformer import Block
from predict.resources import Resource, find_ceiling
from predict.units import DTYPES, Formats
from predict.workloads import Count, FloatArray, Number


@dataclass(frozen=True, slots=True)
class ExpectedPass:
    """Expected time of a pass by kind of kernel."""

    times: Mapping[KernelKind, float]  # in seconds

    @property
    def time_s(self) -> float:
        """All kernels, one after the other."""
        return sum(self.times.values())


def expected_decode(replica: Replica, batch: int, context: int) -> ExpectedPass:
    """A decode step after `context` cached tokens. Raises MissingCeiling without a calibration."""
    requests = _served(replica, batch)
    scores = _Scores("attention_decode", {"batch": requests, "context": context + 1})
    return _pass(replica, scores, tokens=requests, logits=requests)


def expected_prefill(replica: Replica, batch: int, seq: int, logits: Logits = Logits.ALL) -> ExpectedPass:
    """A causal forward pass over prompts. Raises MissingCeiling without a calibration."""
    prompts = _served(replica, batch)
    scores = _Scores("attention_prefill", {"batch": prompts, "seq": seq})
    return _pass(replica, scores, tokens=prompts * seq, logits=prompts * (seq if logits is Logits.ALL else 1))


def expected_check(replica: Replica, batch: int, new: int, context: int) -> ExpectedPass:
    """A pass that checks `new` drafted tokens per sequence after `context` cached ones. Its attention reads the cache
    once, as a decode step does whose KV heads serve `new` times as many query heads. Raises MissingCeiling without a
    calibration."""
    requests = _served(replica, batch)
    scores = _Scores("attention_decode", {"batch": requests, "context": context + new}, queries=new)
    return _pass(replica, scores, tokens=requests * new, logits=requests * new)


def expected_decode_s(replica: Replica, batch: FloatArray, context: int) -> FloatArray:
    """The time of `expected_decode` for each of several batches."""
    requests = np.asarray(_served(replica, batch), dtype=np.float64)
    scores = _Scores("attention_decode", {"batch": requests, "context": context + 1})
    return _sum(_times(replica, scores, tokens=requests, logits=requests))


def expected_mixed_s(replica: Replica, batch: FloatArray, context: int, prompts: FloatArray, prompt: int) -> FloatArray:
    """Times of steps that decode a token for each of `batch` sequences after `context` cached ones, and do `prompts`
    times the work of reading a prompt of `prompt` tokens, whose attention is that share of a whole prompt's. Raises
    MissingCeiling without a calibration."""
    requests, share = np.asarray(_served(replica, batch), dtype=np.float64), prompts / replica.layout.dp
    some = np.maximum(requests, 1)
    scores = (
        _Scores("attention_prefill", {"batch": 1, "seq": prompt}, share=share),
        _Scores("attention_decode", {"batch": some, "context": context + 1}, share=np.where(requests > 0, 1.0, 0.0)),
    )
    return _sum(_times(replica, *scores, tokens=requests + np.round(share * prompt), logits=some))


def expected_launch_s(replica: Replica) -> float:
    """What launches of matmuls and attention take of a decode step's expected time. Those of element-wise kernels count
    with their kind, those between GPUs with the links. Raises MissingCeiling without a calibration."""
    matmul_s = _calibration(replica, "matmul").constants["launch_s"]
    scores_s = _calibration(replica, "attention_decode", "bf16").constants["launch_s"]
    model, tp = replica.model, replica.layout.tp
    layers_s = sum(
        block.layers * (scores_s + matmul_s * len(list(products(block.linears(), tp)))) for block in model.blocks
    )
    return layers_s + matmul_s * len(list(products(model.output_linears(), tp)))


def _served(replica: Replica, batch: Count) -> Count:
    """The requests of `batch` that one of the dp copies of the model serves. Raises MissingCeiling for a layout whose
    messages are not calibrated."""
    layout, node = replica.layout, replica.gpu.gpus_per_node
    if layout.pp > 1:
        raise MissingCeiling(f"pipelines are not calibrated, and this one has {layout.pp} stages")
    if node and layout.tp > node:
        raise MissingCeiling(f"an all-reduce over nodes is not calibrated, and a node has {node} {replica.gpu.name}")
    return -(-batch // layout.dp)


@dataclass(frozen=True, slots=True)
class _Scores:
    """The attention kernel of a layer."""

    op: str
    dims: Mapping[str, Number]
    queries: int = 1  # of each sequence, in decode
    share: Number = 1.0  # of its time that counts


def _pass(replica: Replica, scores: _Scores, *, tokens: Count, logits: Count) -> ExpectedPass:
    """One pass. Kinds of kernel that it does not have are left out."""
    times = {kind: float(time_s) for kind, time_s in _times(replica, scores, tokens=tokens, logits=logits).items()}
    return ExpectedPass({kind: time_s for kind, time_s in times.items() if time_s})


def _times(replica: Replica, *scores: _Scores, tokens: Number, logits: Number) -> dict[KernelKind, Number]:
    """Times by kind of kernel, of one pass or of several."""
    model, tp = replica.model, replica.layout.tp
    times: dict[KernelKind, Number] = dict.fromkeys(KernelKind, 0.0)
    for head in products(model.output_linears(), tp):
        times[KernelKind.VOCAB] += _matmul_s(replica, logits, head.outputs, head.inputs, head.weight_bits)
    for block in model.blocks:
        attention, mlp = _calibrated(block, model.name)
        heads, kv_heads = heads_on_gpu(attention, tp)
        shape = {"kv_heads": kv_heads, "head_dim": attention.head_dim, "window": block.window or 0}
        layer = {
            **_linear_times(replica, block, tokens),
            KernelKind.ELEMENTWISE: _elementwise_s(replica, attention, mlp, tokens),
            KernelKind.SCORES: sum(
                each.share * _attention_s(replica, each.op, {**each.dims, **shape, "heads": heads * each.queries})
                for each in scores
            ),
            KernelKind.LINK: 2 * _all_reduce_s(replica, tokens) if tp > 1 else 0.0,
        }
        for kind, time_s in layer.items():
            times[kind] = times[kind] + block.layers * time_s
    return times


def _sum(times: Mapping[KernelKind, Number]) -> FloatArray:
    """All kernels of each pass, one after the other."""
    return np.asarray(functools.reduce(operator.add, times.values()))


def _calibrated(block: Block, name: str) -> tuple[Attention, Mlp]:
    """The mixer and the MLP of a block. Raises MissingCeiling, naming what is not calibrated."""
    mixer, mlp = block.mixer, block.mlp
    if not isinstance(mixer, Attention):
        raise MissingCeiling(_uncalibrated(name, mixer.text if mixer else "layers without attention"))
    if not isinstance(mlp, Mlp):
        raise MissingCeiling(_uncalibrated(name, mlp.text if mlp else "layers without an MLP"))
    if mixer.gated or mixer.shares_cache or block.extra or not isinstance(mixer.reach, Everything | Window):
        raise MissingCeiling(_uncalibrated(name, "gated attention, shared caches, chunks or extra matrices"))
    return mixer, mlp


def _uncalibrated(name: str, what: str) -> str:
    return f"the kernels of {name} ({what}) are not calibrated"


def _linear_times(replica: Replica, block: Block, tokens: Number) -> dict[KernelKind, Number]:
    """Times of one layer's matmuls on each GPU."""
    times: dict[KernelKind, Number] = {}
    for product in products(block.linears(), replica.layout.tp):
        kind = kind_of_component(product.component)
        time_s = _matmul_s(replica, tokens, product.outputs, product.inputs, product.weight_bits)
        times[kind] = times.get(kind, 0.0) + time_s
    return times


def _elementwise_s(replica: Replica, attention: Attention, mlp: Mlp, tokens: Number) -> Number:
    """Time of the element-wise kernels of one layer: two norms with residual (each moves 4 hidden), rotary positions (Q
    and K read and written), and the activation."""
    gpus = replica.layout.tp
    rotated = 2 * (attention.heads + attention.kv_heads) * attention.head_dim / gpus
    activated = (3 if mlp.gated else 2) * mlp.intermediate / gpus
    moved = (2 * 4 * replica.model.hidden + rotated + activated) * tokens * replica.formats.activation.bytes
    calibration = _calibration(replica, "matmul")
    dram = find_ceiling(Resource.DRAM, replica.gpu.roofs).per_s * calibration.constants["dram_share"]
    return 4 * calibration.constants["launch_s"] + moved / dram


def _matmul_s(replica: Replica, m: Number, n: float, k: float, stored_bits: float) -> Number:
    """Time of one matmul, whose weights the checkpoint stores in `stored_bits`."""
    formats = _matmul_formats(replica, stored_bits)
    calibration = _calibration(replica, "matmul", formats.compute.name)
    machine = Machine.of(replica.gpu, formats.compute)
    return _as_given(expect({"m": m, "n": n, "k": k}, machine, formats, calibration).time_s, m)


def _matmul_formats(replica: Replica, stored_bits: float) -> Formats:
    """The formats of one matmul. A checkpoint whose activations are narrowed too multiplies what it kept in 16 bits in
    16 bits."""
    formats, as_stored = replica.formats, replica.formats.weight_bits is None
    kept = as_stored and stored_bits >= DTYPES["bf16"].bits and replica.model.storage.multiplied is not None
    if formats.narrows and not kept:
        stored = stored_bits if as_stored else formats.weight_bits
        if stored is not None and stored >= DTYPES["bf16"].bits:
            raise MissingCeiling(
                f"no calibrated kernel multiplies weights of {stored:g} bits in {formats.compute.name}"
            )
        return Formats.of(formats.compute)
    compute = formats.activation if kept else formats.compute
    return Formats(stored_bits if as_stored else formats.weight_bits, formats.kv_bits, compute)


def _attention_s(replica: Replica, op: str, dims: Mapping[str, Number]) -> Number:
    """Attention multiplies in 16 bits, even if the matmuls use a narrower format."""
    calibration = _calibration(replica, op, "bf16")
    formats = Formats(kv_bits=replica.formats.kv_bits)
    time_s = expect(dims, Machine.of(replica.gpu, DTYPES["bf16"]), formats, calibration).time_s
    return _as_given(time_s, dims["batch"])


def _all_reduce_s(replica: Replica, tokens: Number) -> Number:
    calibration = _calibration(replica, "all_reduce", "bf16")
    message_bytes = tokens * replica.model.hidden * replica.formats.activation.bytes
    machine = Machine.of(replica.gpu, DTYPES["bf16"])
    dims = {"gpus": replica.layout.tp, "message_bytes": message_bytes}
    return _as_given(expect(dims, machine, Formats(), calibration).time_s, tokens)


def _as_given(time_s: FloatArray, size: Number) -> Number:
    """One time for one size, an array for an array."""
    return time_s if isinstance(size, np.ndarray) else float(time_s[0])


def _calibration(replica: Replica, op: str, dtype: str | None = None) -> Calibration:
    return find_known(replica.gpu, op, dtype or replica.formats.compute.name).calibration

"""Expected time of a whole pass: the sum of the expected times of its kernels, as serving engines launch them.

Kernels that were not measured on the GPU are those of the nearest relative that was (`calibrations.find_known`).
Kernels run one after the other. Layouts over several nodes have no expected time, because no message between nodes was
measured.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from predict.expected.calibrations import Basis, Known
from predict.expected.calls import Call, CallTimes, Unmeasured, time_calls
from predict.expected.exchange_calls import exchange_calls
from predict.expected.layer_calls import layer_calls, product_calls
from predict.expected.share import Attending, Share, check_layout_is_measured
from predict.model.kinds import KernelKind
from predict.model.passes import Logits
from predict.model.products import products
from predict.model.replica import Replica
from predict.workloads import Count, FloatArray


@dataclass(frozen=True, slots=True)
class ExpectedPass:
    """Expected time of a pass by kind of kernel."""

    gpu: str
    times: Mapping[KernelKind, float]  # in seconds
    launch_s: float  # launches of matmuls and attention; those of element-wise kernels count with their kind
    known: tuple[Known, ...]  # the calibrations that it rests on

    @property
    def time_s(self) -> float:
        """All kernels, one after the other."""
        return sum(self.times.values())

    @property
    def is_poor(self) -> bool:
        """Whether kernels of another architecture stand in for some."""
        return any(each.basis is Basis.OTHER for each in self.known)

    @property
    def rests_on(self) -> str:
        """Where its kernels were measured: "kernels of gb200: from b200"."""
        borrowed: dict[str, list[str]] = {}
        for each in self.known:
            if each.basis is not Basis.MEASURED:
                far = ", of another architecture" if each.basis is Basis.OTHER else ""
                borrowed.setdefault(f"from {each.shipped.gpu}{far}", []).append(each.calibration.op)
        if not borrowed:
            return f"kernels measured on {self.gpu}"
        if len(borrowed) == 1 and all(each.basis is not Basis.MEASURED for each in self.known):
            return f"kernels of {self.gpu}: {next(iter(borrowed))}"
        sources = (f"{', '.join(sorted(set(ops)))} {source}" for source, ops in borrowed.items())
        return f"kernels of {self.gpu}: {'; '.join(sources)}"


def expected_decode(replica: Replica, batch: int, context: int, reread: float = 0.0) -> ExpectedPass:
    """A decode step after `context` cached tokens; `reread` as in `Share`. Raises MissingCeiling where nothing like a
    kernel was measured."""
    requests = _served(replica, batch)
    attending = (Attending(requests, 1, context, is_prompt=False),)
    return _one(Share(replica, requests, requests, attending, reread=reread))


def expected_prefill(
    replica: Replica, batch: int, seq: int, logits: Logits = Logits.ALL, cached: int = 0
) -> ExpectedPass:
    """A causal forward pass over `seq` new tokens of each prompt, after `cached` ones. Raises MissingCeiling."""
    prompts = _served(replica, batch)
    last_only = logits is Logits.LAST
    attending = (Attending(prompts, seq, cached, is_prompt=True),)
    return _one(Share(replica, prompts * seq, prompts * (1 if last_only else seq), attending, last_only))


def expected_check(replica: Replica, batch: int, new: int, context: int) -> ExpectedPass:
    """A pass that checks `new` drafted tokens per sequence after `context` cached ones. Its attention reads the cache
    once, as a decode step does whose KV heads serve `new` times as many query heads. Raises MissingCeiling."""
    requests = _served(replica, batch)
    attending = (Attending(requests, new, context, is_prompt=False),)
    return _one(Share(replica, requests * new, requests * new, attending))


def expected_decode_s(replica: Replica, batch: FloatArray, context: int) -> FloatArray:
    """The time of `expected_decode` for each of several batches."""
    requests = np.asarray(_served(replica, batch), dtype=np.float64)
    return _times(Share(replica, requests, requests, (Attending(requests, 1, context, is_prompt=False),))).time_s


def expected_mixed_s(
    replica: Replica, batch: FloatArray, context: int, prompts: FloatArray, prompt: int, cached: int = 0
) -> FloatArray:
    """Times of steps that decode a token for each of `batch` sequences after `context` cached ones, and do `prompts`
    times the work of reading the rest of a prompt of `prompt` tokens after `cached` ones, whose attention is that share
    of the whole rest's. Raises MissingCeiling."""
    requests, share = np.asarray(_served(replica, batch), dtype=np.float64), prompts / replica.layout.dp
    some, new = np.maximum(requests, 1), prompt - cached
    attending = (
        Attending(1, new, cached, is_prompt=True, share=share),
        Attending(some, 1, context, is_prompt=False, share=np.where(requests > 0, 1.0, 0.0)),
    )
    return _times(Share(replica, requests + np.round(share * new), some, attending)).time_s


def _served(replica: Replica, batch: Count) -> Count:
    """The requests of `batch` that one of the dp copies of the model serves."""
    return -(-batch // replica.layout.dp)


def _one(share: Share) -> ExpectedPass:
    """One pass. Kinds of kernel that it does not have are left out."""
    found = _times(share)
    times = {kind: float(time_s[0]) for kind, time_s in found.times.items()}
    shown = {kind: time_s for kind, time_s in times.items() if time_s}
    return ExpectedPass(share.replica.gpu.name, shown, float(found.launch_s[0]), found.known)


def _times(share: Share) -> CallTimes:
    check_layout_is_measured(share.replica)
    return time_calls(share.replica.gpu, _calls(share))


def _calls(share: Share) -> Iterator[Call | Unmeasured]:
    """Every call of a pass."""
    model, tp = share.replica.model, share.tp
    for product in products(model.input_linears(), tp):
        yield from product_calls(product, share.tokens, share, 1)
    for block in model.blocks:
        here = share.within(block)
        yield from layer_calls(block, here)
        yield from exchange_calls(block, here)
    for product in products(model.output_linears(), tp):
        yield from product_calls(product, share.positions, share, 1)

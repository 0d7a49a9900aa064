"""The layout of each replica of a sweep: as asked for, else the one that makes the most tokens per second."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from predict.errors import MissingCeiling
from predict.model.candidates import asked_layouts
from predict.model.replica import Replica


def laid_out(replica: Replica, gpus: int, asked: Mapping[str, int], batches: ArrayLike, contexts: ArrayLike) -> Replica:
    """`replica` on `gpus` GPUs, in the layout whose sizes (tp, pp, dp, ep) are `asked` for. Of several it is the one
    with the highest decode throughput at the largest batch that fits, or at the smallest if none does, and the median
    context; the first of equals. Raises BadQuantity for sizes that contradict each other, MissingCeiling if no rate
    between the GPUs is known."""
    context = int(np.median(np.asarray(contexts)))

    def tokens_per_s(candidate: Replica) -> float:
        sizes = np.asarray(batches)
        fitting = sizes[sizes <= candidate.max_batch(context)]
        batch = int(fitting.max() if fitting.size else sizes.min())
        rate = batch / float(candidate.decode(batch, context).napkin_s)
        return float(f"{rate:.9g}") if fitting.size else 0.0

    candidates = [replace(replica, layout=layout) for layout in asked_layouts(replica.model, replica.gpu, gpus, asked)]
    able = [candidate for candidate in candidates if not candidate.missing_rate]
    if not able:
        heads = f"the {replica.model.heads} heads of {replica.model.name}"
        raise MissingCeiling(candidates[0].missing_rate if candidates else f"{gpus} GPUs cannot share {heads}")
    return able[0] if len(able) == 1 else max(able, key=tokens_per_s)

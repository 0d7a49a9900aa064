"""The layouts that engines choose for a model on a number of GPUs, or that a user asks for, and the best of them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from predict.errors import BadQuantity
from predict.gpus import Gpu
from predict.model.layout import Layout, check_layout, count_experts, divisors, nearest
from predict.model.replica import Replica
from predict.model.transformer import Model
from predict.workloads import Number


def usual_layouts(model: Model, gpu: Gpu, gpus: int) -> tuple[Layout, ...]:
    """The layouts that engines choose for `model` on `gpus` GPUs, tensor parallelism first; empty if there is none.

    All GPUs by tensor parallelism; for models with latents or experts also by copies of the attention, each on 1, 2,
    4, ... GPUs of a node, with expert parallelism over all GPUs. GPUs of several nodes also as one stage per node.
    Layouts that do not divide the heads are left out if others do.
    """
    found = tuple(dict.fromkeys(_usual(model, gpus, gpu.gpus_per_node or gpus)))
    return tuple(layout for layout in found if model.heads % layout.tp == 0) or found


def _usual(model: Model, gpus: int, node: int) -> Iterator[Layout]:
    experts, copies_attention = count_experts(model), model.is_mixture or model.is_latent

    def copied(tp: int, dp: int, pp: int = 1) -> Layout:
        return Layout(tp, pp, dp, math.gcd(experts, tp * dp) if experts else 1)

    if gpus <= model.heads:
        yield Layout(gpus)
    if copies_attention:
        powers = (2**power for power in range(min(node, gpus, model.heads).bit_length()))
        yield from (copied(tp, gpus // tp) for tp in powers if gpus % tp == model.heads % tp == 0 and tp < gpus)
    nodes = gpus // node
    if gpus % node or not 1 < nodes <= model.layers:
        return
    if node <= model.heads:
        yield Layout(node, nodes)
    if copies_attention:
        yield copied(1, node, nodes)


def asked_layouts(model: Model, gpu: Gpu, gpus: int, asked: Mapping[str, int]) -> tuple[Layout, ...]:
    """The layouts on `gpus` GPUs whose sizes (tp, pp, dp, ep) are those `asked` for: the usual ones among them, else
    one whose other sizes are worked out. Raises BadQuantity, naming the nearest that works."""
    if not asked:
        return usual_layouts(model, gpu, gpus)
    found = tuple(
        layout
        for layout in usual_layouts(model, gpu, gpus)
        if all(getattr(layout, name) == size for name, size in asked.items())
    )
    if not found:
        found = (_worked_out(model, gpus, asked),)
    for layout in found:
        check_layout(layout, model)
    return found


def _worked_out(model: Model, gpus: int, asked: Mapping[str, int]) -> Layout:
    """The sizes asked for; the other GPUs go to the first of tp, dp and pp that is not asked for."""
    sizes = {name: size for name, size in asked.items() if name != "ep"}
    taken = math.prod(sizes.values())
    text = " x ".join(f"{name}={size}" for name, size in sizes.items())
    free = next((name for name in ("tp", "dp", "pp") if name not in sizes), None)
    if free is None and taken != gpus:
        raise BadQuantity(f"{text} is {taken} GPUs, not {gpus}; say --gpus {taken} or leave one out")
    if gpus % taken:
        wrong = {name: size for name, size in sizes.items() if gpus % (taken // size) == 0}
        if not wrong:
            raise BadQuantity(f"{text} is {taken} GPUs, which does not divide gpus={gpus}; say --gpus {taken}")
        name, size = max(wrong.items(), key=lambda each: each[1])
        works = nearest(size, divisors(gpus // (taken // size)))
        raise BadQuantity(f"{text} does not divide gpus={gpus}; nearest: {name}={works}")
    if free is not None:
        sizes[free] = gpus // taken
    layout = Layout(**sizes, ep=asked.get("ep", 1))
    experts = count_experts(model)
    if "ep" in asked or layout.dp == 1 or not experts:
        return layout
    return Layout(**sizes, ep=math.gcd(experts, layout.stage_gpus))


def fastest(replicas: Sequence[Replica], batch: int, context: int, time_s: Callable[[Replica], Number]) -> Replica:
    """The replica with the least time, the first of equals. Those whose memory does not hold `batch` sequences of
    `context` tokens count only if none does; those that do not even hold the weights, only then."""
    hold = [each for each in replicas if each.max_batch(max(context, 1)) >= batch]
    able = hold or [each for each in replicas if each.free_bytes > 0] or replicas
    return min(able, key=lambda each: float(f"{float(time_s(each)):.9g}"))


def roomiest(replicas: Sequence[Replica], context: int) -> Replica:
    """The replica that holds the most sequences of `context` tokens, the first of equals."""
    return max(replicas, key=lambda each: each.max_batch(max(context, 1)))

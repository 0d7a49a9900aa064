"""Layout: how the GPUs share the model, what each holds, and what it sends."""

from collections.abc import Iterator

from predict.answers.arithmetic import number
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.answers.times import decode_times, prefill_times
from predict.model.layout import Layout, count_experts
from predict.model.replica import PassPrediction, Replica
from predict.model.traffic import Exchange
from predict.units import GB, Unit

EXCHANGES = {
    Exchange.ALL_REDUCE: ("all_reduce_bytes_per_gpu", "sums over tp GPUs: attention, MLP"),
    Exchange.ALL_TO_ALL: ("all_to_all_bytes_per_gpu", "tokens to the GPUs of their experts and back"),
    Exchange.PIPELINE: ("pipeline_bytes_per_gpu", "activations to the next stage"),
}


def layout(q: Question) -> Iterator[Line | Note]:
    """The layouts that the numbers of serving are for; nothing for one GPU."""
    if q.gpus == 1:
        return
    yield from _nodes(q)
    if not q.serves:
        return
    times, prompts = decode_times(q), prefill_times(q)
    replica, reads, holds = times.replica, prompts.replica, q.roomiest_replica()
    known = [each.layout.text for each in q.replicas]
    chosen = "the one asked for" if q.asked_sizes else "what engines choose"
    if len(known) > 1:
        chosen = f"the fastest of {len(known)}"
        yield Note(f"layouts compared: {'; '.join(known)}")
    yield Line("layout", "layout of decode", replica.layout.text, Unit.NAME, chosen)
    yield Line("prefill_layout", "of prefill", reads.layout.text, Unit.NAME, chosen)
    yield Line("max_batch_layout", "of the largest batch", holds.layout.text, Unit.NAME, "the one that holds most")
    yield from _held(q, replica)
    yield from _sent(times.bound)
    sent = sum(plain(each.link_bytes + each.network_bytes) for each in prompts.bound.sent)
    yield Line("prefill_sent_bytes_per_gpu", "sent in prefill", sent, Unit.BYTES, "by each GPU, all of these")
    yield from _notes(q, replica.layout)


def _held(q: Question, replica: Replica) -> Iterator[Line]:
    """What each GPU holds while it decodes."""
    sizes = replica.layout
    experts = plain(q.model.expert_bytes(q.formats.weight_bits))
    once = plain(q.model.stored_bytes(q.formats.weight_bits))
    formula, arithmetic = "weights / (tp x pp)", number(once)
    if sizes.dp > 1:
        formula = "(experts / dp + the rest) / (tp x pp)"
        arithmetic = f"({number(experts)} / {sizes.dp} + {number(once - experts)})"
    weights, each = plain(replica.weight_bytes) / q.gpus, f"({sizes.tp} x {sizes.pp})"
    yield Line("weight_bytes_per_gpu", "weights of a GPU", weights, Unit.BYTES, formula, f"{arithmetic} / {each}")
    cache, served = plain(replica.kv_bytes_per_gpu(q.batch, q.context)), -(-q.batch // sizes.dp)
    copied = ", copies of heads included" if replica.cache_copies > 1 else ""
    arithmetic = f"{served:,} x {number(replica.resident_kv_bytes(1, q.context))} / {each}"
    formula = f"requests of a copy x KV of one / (tp x pp){copied}"
    yield Line("kv_bytes_per_gpu", "KV cache of a GPU", cache, Unit.BYTES, formula, arithmetic)


def _sent(step: PassPrediction) -> Iterator[Line]:
    """What each GPU sends in a step, by kind."""
    for each in step.sent:
        key, formula = EXCHANGES[each.exchange]
        amount = plain(each.link_bytes + each.network_bytes)
        if amount:
            yield Line(key, f"{each.exchange} of a step", amount, Unit.BYTES, formula)
    if between := sum(plain(each.network_bytes) for each in step.sent):
        yield Line("network_bytes_per_gpu", "of it to other nodes", between, Unit.BYTES, "over the network")


def _nodes(q: Question) -> Iterator[Note]:
    """How many nodes the GPUs are, and the rate between them."""
    node, rate = q.gpu.gpus_per_node, q.network_bytes_per_s
    if node is None or q.gpus <= node:
        return
    between = f"{rate / GB:g} GB/s a GPU between them (--link-between-nodes)" if rate else "the link between is unknown"
    yield Note(f"{q.gpus:,} {q.gpu.name} are {-(-q.gpus // node):,} nodes of {node}: {between}", Weight.DECISION)


def _notes(q: Question, sizes: Layout) -> Iterator[Note]:
    copies = "copies of all but the experts" if count_experts(q.model) else "independent replicas"
    if sizes.dp > 1:
        yield Note(f"dp {sizes.dp}: {sizes.dp} {copies}, each of which serves its share of the requests")
    if q.batch < sizes.dp:
        yield Note(f"batch {q.batch} leaves {sizes.dp - q.batch} of the {sizes.dp} {copies} idle", Weight.DECISION)
    if sizes.pp > 1:
        yield Note(f"pp {sizes.pp}: a token goes through all stages, which work on up to {sizes.pp} parts of the batch")
        if q.model.layers % sizes.pp:
            layers = f"{q.model.layers} layers do not divide by {sizes.pp} stages"
            yield Note(f"{layers}: this splits evenly, the largest stage holds more", Weight.DECISION)

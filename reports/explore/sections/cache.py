"""6. What does the KV cache take: over the context, by layers, KV heads and format, on cards of five sizes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from predict.answers.question import Question
from predict.answers.sections.capacity import capacity
from predict.answers.sections.memory import memory_use
from predict.model.replica import Replica
from predict.units import GB, both_bytes, si
from reports.explore.answered import Answered, Number, Row, bar, mark, numbers_of, texts_of
from reports.explore.charts import BOUND, BYTES, COLORS, Axis, Series, bars, curves, log_sizes
from reports.explore.kernel import KernelFigure, kernel_chart
from reports.explore.section import Section
from reports.explore.shape import shape_stops
from reports.explore.state import State
from reports.explore.unfit import cannot_serve, largest_batch
from reports.palette import GREEN, GREY, RED, SKY

SHAPED = ("layers", "kv_heads")
KEYS = (
    "kv_bytes_per_token",
    "kv_bytes",
    "state_bytes",
    "weight_bytes",
    "kv_capacity_tokens",
    "max_batch",
    "max_context",
)
CARDS_GB = (24, 40, 80, 141, 192)
LONGEST = 2**20
CARD_SERIES = tuple(
    Series(f"{size} GB", color, (2 + place, 2))
    for place, (size, color) in enumerate(zip(CARDS_GB, COLORS, strict=False))
)
GROWTH = curves(
    "growth",
    "KV cache of the batch over the context, and what cards have left for it",
    log_sizes("cached tokens of a request"),
    Axis("bytes", BYTES, is_log=True),
    (replace(BOUND, name="KV cache"), *CARD_SERIES),
)
ROOM = bars(
    "room",
    "The batch on cards of five sizes",
    Axis("bytes of a card", BYTES),
    ("engine", "weights", "KV cache", "does not fit", "free"),
    (GREY, GREEN, SKY, RED, "transparent"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """The question's GPUs, had they another size: --hbm."""

    size_gb: int
    replica: Replica  # the one that holds most requests
    max_batch: int  # requests that fit

    @classmethod
    def of(cls, q: Question, size_gb: int) -> Self:
        """A card of this size under the question."""
        replica = q.roomiest_replica(hbm_bytes=float(size_gb * GB))
        return cls(size_gb, replica, int(replica.max_batch(max(q.context, 1))))

    @property
    def free_bytes(self) -> float:
        """What weights and engine leave for caches on all of them; negative if they do not fit."""
        return float(self.replica.free_bytes)


def answer(state: State) -> Answered:
    """The cache of a token and of the batch; the largest batch of each card."""
    q = state.question()
    command = state.command()
    if not q.serves:
        return cannot_serve(q, command)
    found = list(memory_use(q))
    cards = [Card.of(q, size) for size in CARDS_GB]
    return Answered(
        says=(_says(q, cards),),
        commands=(command, *(f"{command} --hbm {card.size_gb}GB" for card in cards)),
        numbers=(
            *numbers_of(found, KEYS),
            *(number for place, card in enumerate(cards, 1) for number in _largest(q, card, place)),
        ),
        data={
            "growth": [*_growth(q), *_left(cards)],
            "growth_marks": [mark(max(q.context, 1), "this context", f"{q.context:,}")],
            "room": [row for card in cards for row in _room(q, card)],
            "room_marks": [],
        },
        notes=texts_of(found),
        is_alarm=q.batch > largest_batch(q),
        controls=shape_stops(state, SHAPED),
    )


def _says(q: Question, cards: list[Card]) -> str:
    fitting = [card.size_gb for card in cards if card.max_batch >= q.batch]
    cache = si(float(q.roomiest_replica().held_cache_bytes(q.batch, q.context)), "B")
    many = q.batch > 1
    asked = f"{q.batch:,} request{'s' if many else ''} of {q.context:,} tokens cache{'' if many else 's'} {cache}"
    if not fitting:
        return f"{asked}: too much for {q.gpus:,} of any of these cards."
    return f"{asked}: {'they fit' if many else 'it fits'} on {q.gpus:,} x {fitting[0]} GB or more."


def _largest(q: Question, card: Card, command: int) -> Iterator[Number]:
    """As the card's command prints it: without cached tokens there is none."""
    for number in numbers_of(capacity(q, card.replica), ("max_batch",), command):
        yield replace(number, label=f"largest batch, {card.size_gb} GB")


def _growth(q: Question) -> Iterator[Row]:
    contexts = np.array(sorted({*(2.0**power for power in range(7, LONGEST.bit_length())), float(max(q.context, 1))}))
    sizes = np.broadcast_to(q.roomiest_replica().held_cache_bytes(q.batch, contexts), contexts.shape)
    for context, size in zip(contexts.tolist(), sizes.tolist(), strict=True):
        if size > 0:
            says = f"{context:,.0f} tokens: {both_bytes(size)}"
            yield {"x": context, "y": size, "series": "KV cache", "says": says}


def _left(cards: list[Card]) -> Iterator[Row]:
    """A level line for each card that the weights leave room on."""
    for card in cards:
        if card.free_bytes > 0:
            says = f"{card.size_gb} GB: {both_bytes(card.free_bytes)} left"
            for context in (128, LONGEST):
                yield {"x": context, "y": card.free_bytes, "series": f"{card.size_gb} GB", "says": says}


def _room(q: Question, card: Card) -> Iterator[Row]:
    """What a card holds: beyond its memory the bar is of another group."""
    replica, memory_bytes = card.replica, float(card.size_gb * GB)
    cache = float(replica.held_cache_bytes(q.batch, q.context)) / q.gpus
    parts = {
        "engine": float(replica.reserved_bytes),
        "weights": float(replica.held_weight_bytes) / q.gpus,
        "KV cache": cache,
    }
    start, row = 0.0, f"{card.size_gb} GB"
    for name, size in parts.items():
        end, inside = start + size, min(start + size, memory_bytes)
        if inside > start:
            says = f"{row}: {name} {both_bytes(size)}"
            yield bar(row, (start, inside), name, "", says)
        if end > max(start, memory_bytes):
            over = end - max(start, memory_bytes)
            says = f"{row}: {both_bytes(over)} of {name} too much"
            yield bar(row, (end - over, end), "does not fit", "", says)
        start = end
    if start < memory_bytes:
        says = f"{row}: {both_bytes(memory_bytes - start)} free"
        yield bar(row, (start, memory_bytes), "free", "", says)
    text = f"{card.max_batch:,} fit" if card.max_batch >= q.batch else "does not fit"
    yield bar(row, (max(start, memory_bytes),) * 2, "engine", text, f"{row}: {text}")


KERNEL = KernelFigure(
    "kernel_cache",
    kernel_chart("kernel_cache", "Attention of decode, over the cached tokens", "cached tokens of a request"),
    "decode",
    "context",
    lambda q: max(q.context, 1),
)

CACHE = Section(
    "cache",
    "What does the KV cache take?",
    "Change the context, the layers, the KV heads and the format. With fewer KV heads than heads (GQA) the cache is"
    " smaller by as much.",
    answer,
    controls=SHAPED,
    charts=(GROWTH, ROOM),
    kernel=KERNEL,
)

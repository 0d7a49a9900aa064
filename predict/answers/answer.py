"""The answer to a question: every number with its formula and its arithmetic.

The page and the JSON of `python -m predict model` show what `answer` returns. `sections/` holds one module per section.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from predict.answers.lines import BOTH, SERVING, TRAINING, Answer, Line, Note, Section, Use
from predict.answers.question import Question
from predict.answers.sections.decode import decode
from predict.answers.sections.layout import layout
from predict.answers.sections.memory import memory_use
from predict.answers.sections.model import forward_flop, model_size
from predict.answers.sections.money import serving_money, training_money
from predict.answers.sections.prefill import prefill
from predict.answers.sections.speculation import speculation
from predict.answers.sections.training import training
from predict.units import people_count, percent


def answer(question: Question) -> Answer:
    """Answer everything that is known. Raises MissingCeiling if the GPU has no roof for the compute format."""
    sections: list[Section] = []
    notes: dict[str, Note] = {}  # by text: two sections may say the same
    for title, uses, items in _parts(question):
        found = list(items)
        if lines := tuple(item for item in found if isinstance(item, Line)):
            sections.append(Section(title, lines, uses))
        for note in (item for item in found if isinstance(item, Note)):
            before = notes.get(note.text)
            notes[note.text] = replace(note, uses=before.uses | uses if before else uses)
    return Answer(tuple(sections), tuple(sorted(notes.values(), key=lambda note: note.weight)))


def _parts(q: Question) -> Iterator[tuple[str, frozenset[Use], Iterable[Line | Note]]]:
    """Title, uses and content of each section."""
    tokens = f"{q.batch:,} x {q.seq:,} tokens"
    yield "Model", BOTH, model_size(q)
    yield f"Forward pass: {tokens}, {q.mask} attention", TRAINING, forward_flop(q)
    yield f"Layout: {q.gpus:,} x {q.gpu.name}", SERVING, layout(q)
    yield f"Memory: {q.gpus:,} x {q.gpu.name}", SERVING, memory_use(q)
    yield f"Prefill: {tokens}", SERVING, prefill(q)
    yield f"Decode: batch {q.batch:,}, {q.context:,} cached tokens each", SERVING, decode(q)
    drafted = f"{q.draft.name if q.draft else ''} drafts, {percent(q.acceptance)} kept"
    yield f"Speculative decoding: {drafted}", SERVING, speculation(q)
    yield f"Training: a step of {tokens}, {people_count(q.tokens)} tokens in all", TRAINING, training(q)
    price = f"${q.usd_per_gpu_hour:g} per GPU-hour"
    yield f"Money: training at {price}", TRAINING, training_money(q)
    yield f"Money: serving at {price}", SERVING, serving_money(q)

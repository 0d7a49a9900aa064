"""The answer to a question: every number with its formula and its arithmetic.

The page and the JSON of `python -m predict model` show what `answer` returns. `sections/` holds one module per section.
"""

from predict.answers.lines import Answer, Line, Note, Section
from predict.answers.question import Question
from predict.answers.sections.decode import decode
from predict.answers.sections.memory import memory_use
from predict.answers.sections.model import forward_flop, model_size
from predict.answers.sections.money import prices
from predict.answers.sections.prefill import prefill
from predict.answers.sections.speculation import speculation
from predict.answers.sections.training import training
from predict.units import percent


def answer(question: Question) -> Answer:
    """Answer everything that is known. Raises MissingCeiling if the GPU has no roof for the compute format."""
    q = question
    tokens = f"{q.batch} x {q.seq} tokens"
    parts = (
        ("Model", model_size(q)),
        (f"Forward pass: {tokens}, {q.mask} attention", forward_flop(q)),
        (f"Memory: {q.gpus} x {q.gpu.name}", memory_use(q)),
        (f"Prefill: {tokens}", prefill(q)),
        (f"Decode: batch {q.batch}, {q.context} cached tokens each", decode(q)),
        (
            f"Speculative decoding: {q.draft.name if q.draft else ''} drafts, {percent(q.acceptance)} kept",
            speculation(q),
        ),
        (f"Training: a step of {tokens}, {q.tokens:.4g} tokens in all", training(q)),
        (f"Money: ${q.usd_per_gpu_hour:g} per GPU-hour", prices(q)),
    )
    sections, notes = [], []
    for title, items in parts:
        found = list(items)
        if lines := tuple(item for item in found if isinstance(item, Line)):
            sections.append(Section(title, lines))
        notes += [item.text for item in found if isinstance(item, Note)]
    return Answer(tuple(sections), tuple(dict.fromkeys(notes)))

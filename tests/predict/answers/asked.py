"""Answers about every preset on a few machines, each worked out once for all tests that look at all of them."""

import functools

from predict.answers.estimate import estimate

MACHINES = {
    "one GPU": {"gpu": "h100"},
    "everything asked": {
        "gpu": "h200", "gpus": 2, "batch": 8, "seq": 4096, "context": 3000, "weights": "int4", "kv": "fp8",
        "logits": "all", "token_price": 1.0, "prefix": 100, "chunk": 512, "recompute": "full", "draft": "qwen3-0.6b",
    },
    "nothing fits": {"gpu": "l4", "seq": 8192, "batch": 1000, "overhead": "2GB", "mfu": 0.5, "mbu": 0.7},
}  # fmt: skip


@functools.cache
def answered(name, machine):
    return estimate(name, **MACHINES[machine])

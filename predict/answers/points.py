"""The numbers of a server by their keys: bounds, and beside them what is expected."""

from collections.abc import Sequence

import numpy as np

from predict.answers.targets import Measure, Point
from predict.errors import MissingCeiling
from predict.expected.server import expected_load
from predict.model.server import Steady

# Keys of what the steps of a server decide. Those of expected values: `expected_key`.
STEADY_KEYS = (
    "mixed_step_s",  # reads prompt tokens, and decodes for the other requests
    "decode_step_s",  # decodes for all
    "ttft_s",
    "tpot_s",
    "requests_per_s",  # of a replica, as the tokens
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "usd_per_1m_tokens",
)


def expected_key(key: str) -> str:
    """The key of the expected value beside a bound: ttft_expected_s, tokens_per_s_expected."""
    is_time = key.endswith("_s") and not key.endswith("_per_s")
    return f"{key.removesuffix('_s')}_expected_s" if is_time else f"{key}_expected"


def point_values(point: Point) -> dict[str, object]:
    """The configuration of a point and its bounds, in SI units."""
    q, layout, steps = point.question, point.server.replica.layout, point.least.steps
    return {
        "gpu": q.gpu.name,
        "gpus": q.gpus,
        "layout": layout.text,
        "tp": layout.tp,
        "dp": layout.dp,
        "ep": layout.ep,
        "weights": q.weights_name,
        "kv": q.kv_dtype.name,
        "compute": q.compute_dtype.name,
        "chunk": point.chunk,
        "batch": point.batch,
        "mixed_steps_per_request": float(steps.mixed[0]),
        "decode_steps_per_request": float(steps.decode[0]),
        **_steady_values(point, point.least),
        "bound": str(point.bound),
        "replicas": point.replicas,
        "total_gpus": point.gpus,
        "usd_per_gpu_hour": q.usd_per_gpu_hour,
        "usd_per_hour": point.usd_per_hour,
    }


def expected_values(point: Point) -> dict[str, float | None]:
    """The expected values of a point by their keys; None where its kernels are not calibrated."""
    try:
        steady = _expected(point)
    except MissingCeiling:
        return dict.fromkeys(map(expected_key, STEADY_KEYS))
    return {expected_key(key): value for key, value in _steady_values(point, steady).items()}


def all_values(points: Sequence[Point]) -> list[dict[str, object]]:
    """Both for each point."""
    return [{**point_values(point), **expected_values(point)} for point in points]


def _expected(point: Point) -> Steady:
    if point.targets.by is Measure.EXPECTED:
        return point.steady
    return expected_load(point.server, np.array([float(point.batch)]))


def _steady_values(point: Point, steady: Steady) -> dict[str, float]:
    times = (steady.mixed_s, steady.decode_s, steady.ttft_s, steady.tpot_s)
    rates = (steady.requests_per_s, steady.tokens_per_s, steady.tokens_per_s / point.question.gpus, 1 / steady.tpot_s)
    numbers = (*(float(each[0]) for each in (*times, *rates)), point.usd(steady))
    return dict(zip(STEADY_KEYS, numbers, strict=True))

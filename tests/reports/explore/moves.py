"""Moves of sliders: for models of several sizes, the addresses that the page asks for while one is dragged."""

import random
from urllib.parse import urlencode

from reports.explore.contents import SECTIONS, controls_of
from reports.explore.controls import CONTROLS, SHARED

# Dense, grouped heads, windows, experts, latent attention; on as many GPUs as hold it.
MODELS = {
    "gpt-2-small": 1,
    "llama-3-8b": 1,
    "gemma-3-27b": 1,
    "qwen3-30b-a3b": 2,
    "llama-3-70b": 4,
    "deepseek-v3": 16,
}
STEPS = 4  # of a move
LEAST_STOPS = 3  # of a slider that can be dragged


def moves(seed=0):
    """Paths of answers, one for each step of each move."""
    chance = random.Random(seed)
    for model, gpus in MODELS.items():
        for name, section in SECTIONS.items():
            for slider in (*SHARED, *controls_of(section)):
                stops = CONTROLS[slider].stops
                if len(stops) < LEAST_STOPS or slider == "gpus":
                    continue
                start = chance.randrange(len(stops))
                for stop in stops[start : start + STEPS]:
                    yield f"/answer/{name}?{urlencode({'model': model, 'gpu': 'h100', 'gpus': gpus, slider: stop})}"

"""How many guesses each step of a draft-and-verify loop accepts: a rule, so that every run makes the same steps."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

GENERATIONS = ("generate_tokens", "generate_drafted")  # the ops that make the tokens of one sequence
_GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill 0 to 1 evenly, however many there are


def accepted_guesses(tokens: int, guesses: int, accepted: int) -> Iterator[int]:
    """Guesses that each step accepts, until `tokens` are made: a step makes one more than it accepts.

    A guess is right with probability a = `accepted` percent, and a step accepts those before the first wrong one, so it
    accepts at least i of them with probability a^i. Instead of random numbers, which few steps would leave far off,
    multiples of the golden ratio tell how many.
    """
    made = 0
    for step in itertools.count():
        if made >= tokens:
            return
        chance = (step + 0.5) * _GOLDEN % 1
        right = sum(chance < (accepted / 100) ** count for count in range(1, guesses + 1))
        made += right + 1
        yield right


@dataclass(frozen=True, slots=True)
class Verified:
    """What a loop does in all."""

    steps: int
    positions: int  # sum over all steps of the tokens that were made before


@functools.lru_cache(maxsize=4096)
def verified(tokens: int, guesses: int, accepted: int) -> Verified:
    """What the loop does in all."""
    made = [right + 1 for right in accepted_guesses(tokens, guesses, accepted)]
    before = itertools.accumulate(made[:-1], initial=0)
    return Verified(len(made), sum(before))

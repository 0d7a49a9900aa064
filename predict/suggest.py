"""What a person may have meant by a name that is not known: the one rule behind every "did you mean".

A suggestion is the same name, written or typed a little otherwise. Numbers must agree: h101 is no h100, and a model of
80B is none of 8B, however near in letters. Nor is a name of one or two letters like any other: b300 is no mi300x.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

MOST_SUGGESTED = 3
MOST_LISTED = 12  # a longer list of names is left to the command that prints it
SHORTEST_PART = 3  # characters: less of a name stands for too many
MOST_QUOTED = 60  # characters of what was typed

NOTHING: Mapping[str, str] = MappingProxyType({})

_LOOK_ALIKE = str.maketrans("oli", "011")
# Letters of a part of a name -> typing errors allowed in it, most first.
_ERRORS = ((7, 2), (4, 1))


def nearest(typed: str, known: Iterable[str], means: Mapping[str, str] = NOTHING) -> tuple[str, ...]:
    """At most three known names that `typed` may mean, all of the closest kind; empty if none is near.

    `means` holds further spellings, each with the name that it suggests. Kinds, the closest first: the same but for
    separators and case (H-100), or for characters that look alike (h10o); the beginning of known names (deepseek); a
    known name within more words, without further numbers (Llama-3-8B-Instruct); words of known names (decode); the same
    numbers between letters with few typing errors (lama-3-8b).
    """
    if not (squeezed := _squeeze(typed)):
        return ()
    names = {**{name: name for name in known}, **means}
    ranked = ((_rank(typed, squeezed, spelling), name) for spelling, name in names.items())
    near = [(rank, name) for rank, name in ranked if rank is not None]
    best = min((rank for rank, _ in near), default=None)
    return tuple(dict.fromkeys(name for rank, name in near if rank == best))[:MOST_SUGGESTED]


def did_you_mean(typed: str, known: Iterable[str], means: Mapping[str, str] = NOTHING) -> str:
    """What stands between a name that is not known and how to find one: ": did you mean matmul? ", or "; "."""
    names = nearest(typed, known, means)
    if not names:
        return "; "
    *others, last = names
    return f": did you mean {' or '.join(filter(None, (', '.join(others), last)))}? "


def unknown(
    what: str, typed: str, known: Iterable[str], means: Mapping[str, str] = NOTHING, *, listed_by: str | None = None
) -> str:
    """The line about an unknown name: "unknown op 'matmull': did you mean matmul? `python -m predict ops` lists them".

    A long list is left to the command `listed_by`, if there is one."""
    names = tuple(known)
    is_long = listed_by is not None and len(names) > MOST_LISTED
    listed = f"`{listed_by}` lists them" if is_long else f"known: {', '.join(names) or 'none'}"
    return f"unknown {what} {quoted(typed)}{did_you_mean(typed, names, means)}{listed}"


def no_choice(what: str, typed: str, choices: Iterable[str]) -> str:
    """The line about a value that is none of a few: "logits must be one of all, last, not 'lst': did..."."""
    choices = tuple(choices)
    said = f"{what} must be one of {', '.join(choices)}, not {quoted(typed)}"
    return f"{said}{did_you_mean(typed, choices)}".rstrip("; ")


def quoted(typed: str) -> str:
    """What was typed, in quotes and on one line; the beginning of it if it is long."""
    return repr(typed if len(typed) <= MOST_QUOTED else f"{typed[:MOST_QUOTED]}...")


def _rank(typed: str, squeezed: str, spelling: str) -> tuple[int, int] | None:
    """How close `spelling` is, the smaller the closer; None if it is not near."""
    other = _squeeze(spelling)
    if squeezed == other:
        return (0, 0)
    if squeezed.translate(_LOOK_ALIKE) == other.translate(_LOOK_ALIKE):
        return (1, 0)
    words, known = _words(typed), _words(spelling)
    is_part = len(squeezed) >= SHORTEST_PART
    if is_part and _begins(typed, spelling):
        return (2, 0)
    if (rest := _without(words, known)) is not None and not any(map(_has_digit, rest)):
        return (3, -len(known))  # the longest name of those that are within
    if is_part and _without(known, words) is not None:
        return (4, 0)
    errors = _typing_errors(squeezed, other)
    return None if errors is None else (5, errors)


def _squeeze(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _without(words: list[str], part: list[str]) -> list[str] | None:
    """`words` without `part`, which stands in them in one piece; None if it does not."""
    size = len(part)
    for start in range(len(words) - size + 1) if size else ():
        if words[start : start + size] == part:
            return words[:start] + words[start + size :]
    return None


def _begins(start: str, name: str) -> bool:
    """Whether `name` begins with `start`, which ends in no number of it: h20 does not begin h200, llama3 does begin
    llama-3-8b."""
    squeezed, other = _squeeze(start), _squeeze(name)
    if not other.startswith(squeezed):
        return False
    pieces = _pieces(start)
    is_amid_number = squeezed[-1].isdigit() and other[len(squeezed) : len(squeezed) + 1].isdigit()
    return not is_amid_number or _pieces(name)[: len(pieces)] == pieces


def _pieces(name: str) -> list[str]:
    """The numbers of a name, and the letters between them."""
    return re.findall(r"\d+|[^\W\d_]+", name.casefold())


def _typing_errors(one: str, other: str) -> int | None:
    """Typing errors between two names with the same numbers; None if there are too many, or a number differs."""
    ours, theirs = re.split(r"(\d+)", one), re.split(r"(\d+)", other)
    if ours[1::2] != theirs[1::2]:
        return None
    found = [_errors_in(*pair) for pair in zip(ours[::2], theirs[::2], strict=True)]
    return None if None in found else sum(errors for errors in found if errors)


def _errors_in(one: str, other: str) -> int | None:
    """Typing errors between two runs of letters, doubled; None if there are more than their length allows. Letters
    that are doubled, or not, count as half of one; neighbors that are swapped are an error in short names too."""
    if one == other:
        return 0
    single, single_other = (re.sub(r"(.)\1+", r"\1", letters) for letters in (one, other))
    if single == single_other:
        return 1
    longest = max(len(one), len(other))
    allowed = next((errors for letters, errors in _ERRORS if longest >= letters), 0)
    if allowed == 0:
        return 2 if longest == 3 and _swapped(one, other) else None
    if abs(len(single) - len(single_other)) > allowed:
        return None
    errors = _distance(single, single_other)
    return 2 * errors if errors <= allowed else None


def _swapped(one: str, other: str) -> bool:
    return any(one[:at] + one[at + 1] + one[at] + one[at + 2 :] == other for at in range(len(one) - 1))


def _distance(one: str, other: str) -> int:
    """Letters to insert, drop, replace, or swap with their neighbor (optimal string alignment: Damerau 1964)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        older, before, row = before, row, [i]
        for j, other_letter in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other_letter))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == other_letter:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]

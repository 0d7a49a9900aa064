"""The options that choose what the page of a model shows: serving, training, the arithmetic."""

from typing import Annotated

from predict.answers.lines import BOTH, Use
from predict.errors import BadQuantity
from predict.forms import flag

Serve = Annotated[bool, flag("--serve", "Only serving. The default.")]
Train = Annotated[bool, flag("--train", "Only training.")]
Everything = Annotated[bool, flag("--all", "Serving and training.")]
ByKernel = Annotated[bool, flag("--by-kernel", "List the kernels of each pass on one GPU, as ops with sizes.")]
Explain = Annotated[bool, flag("--explain", "Print the arithmetic, line by line.")]


def read_uses(*, serve: bool, train: bool, everything: bool) -> frozenset[Use]:
    """What the page is about; serving by default. Raises BadQuantity for more than one option."""
    options = {"--serve": serve, "--train": train, "--all": everything}
    asked = [option for option, is_asked in options.items() if is_asked]
    if len(asked) > 1:
        raise BadQuantity(f"give one of {' or '.join(asked)}")
    if everything:
        return BOTH
    return frozenset({Use.TRAIN if train else Use.SERVE})

"""Errors a user can act on. Each message is one line that says what to do; none is a bug in this project.

NapkinError
|- UnknownGpu        no such GPU in the table
|- MissingCeiling    the machine has no such roof, or nobody published it
|- BadWorkload       an op, a dimension or a dtype that does not exist or makes no sense
|- BadModel          a model that is not known, or a config.json that cannot be understood
|- BadQuantity       a size, a rate, a price or a share outside its range
|- BadRecord         a results file that cannot be understood
`- BadRun            a run that cannot start: wrong machine, folder or suite

`python -m ...` prints the message on stderr and exits with status 2; any other exception is a bug with a traceback.
"""


class NapkinError(Exception):
    """Base of all expected errors."""


class UnknownGpu(NapkinError):
    """The name matches no GPU in `predict.gpus.GPUS`."""


class MissingCeiling(NapkinError):
    """A roof that the prediction needs is not known. Raised rather than guessed: an invented peak is a wrong answer."""


class BadWorkload(NapkinError):
    """An unknown op or dtype, or a dimension that is missing, unknown or not a positive whole number."""


class BadModel(NapkinError):
    """An unknown preset or architecture, or a model's configuration that lacks a field or contradicts itself."""


class BadQuantity(NapkinError):
    """A quantity outside the range in which its formula means anything; the message names it."""


class BadRecord(NapkinError):
    """A results file holds something that is not a record of this schema."""


class BadRun(NapkinError):
    """A run cannot start as asked."""

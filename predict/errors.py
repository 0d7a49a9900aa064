"""Errors that a user can fix. Each message is one line that says what is wrong and how to fix it.

NapkinError
|- UnknownGpu        the GPU is not in the table
|- BadGpu            the file of a GPU that cannot be read
|- MissingCeiling    the machine has no such roof, or no public source gives it
|- BadWorkload       an unknown op or dtype, or a wrong dimension
|- BadModel          an unknown model, or a config.json that cannot be read
|- BadQuantity       a size, a rate, a price or a share outside its range
|- BadRecord         a results file that cannot be read
|- BadLog            the result of a server's benchmark that is of no known form, or has no number to compare
`- BadRun            a run that cannot start: wrong machine, folder or suite

`python -m ...` prints the message on stderr and exits with status 2. Any other exception is a bug and keeps its
traceback.
"""


class NapkinError(Exception):
    """Base of all expected errors."""


class UnknownGpu(NapkinError):
    """The name matches no GPU in `predict.gpus.GPUS`."""


class BadGpu(NapkinError):
    """The file of a GPU that is no such file, or lacks, repeats or misspells a field."""


class MissingCeiling(NapkinError):
    """A roof that the prediction needs is not known. The code never guesses one, because the answer would be wrong."""


class BadWorkload(NapkinError):
    """An unknown op or dtype, or a dimension that is missing, unknown or not a positive whole number."""


class BadModel(NapkinError):
    """An unknown preset or architecture, or a configuration that lacks a field or contradicts itself."""


class BadQuantity(NapkinError):
    """A quantity outside the valid range of its formula. The message names the quantity."""


class BadRecord(NapkinError):
    """A results file holds data that are not a record of this schema."""


class BadLog(NapkinError):
    """The result of a server's benchmark that is of no known form, or lacks a number that a comparison needs."""


class BadRun(NapkinError):
    """A run cannot start as asked."""

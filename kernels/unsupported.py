"""The one error by which an implementation declines work."""


class Unsupported(ValueError):
    """The implementation does not take this dtype, shape or device; the message names what it takes."""

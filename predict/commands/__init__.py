"""The commands of `python -m predict`: their arguments and output."""

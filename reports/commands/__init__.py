"""The commands of `python -m reports`: arguments and output."""

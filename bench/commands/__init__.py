"""The commands of `python -m bench`: arguments and output."""

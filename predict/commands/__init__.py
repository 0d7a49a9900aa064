"""The commands of `python -m predict`: what each asks, works out and prints."""

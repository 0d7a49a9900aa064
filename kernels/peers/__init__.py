"""Kernels of other packages, each measured where it is installed."""

"""Ours: Triton kernels, the launching of them, and their ahead-of-time compilation."""

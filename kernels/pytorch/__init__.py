"""PyTorch: its own kernels, its compiler, whole blocks. No Triton, no optional package."""

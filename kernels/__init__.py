"""The things measured: Triton and PyTorch implementations of each op. Knows nothing of timing, device names or files."""

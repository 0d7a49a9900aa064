"""The things measured: Triton and PyTorch implementations of each op. No timing, device names or files."""

"""What napkin-bench measures: Triton and PyTorch implementations of each op. No timing, device names or files."""

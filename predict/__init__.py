"""The napkin: predicts times from a workload's FLOP and bytes and a machine's roofs. Needs no GPU and no PyTorch."""

"""The napkin: FLOP and bytes of a workload over a machine's roofs. Standard library and NumPy only."""

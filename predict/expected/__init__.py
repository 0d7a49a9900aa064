"""Expected time: forms with a few calibrated constants, for kernels and for a whole pass."""

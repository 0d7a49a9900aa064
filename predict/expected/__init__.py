"""Expected time of a kernel and of a whole pass: time models with a few calibrated constants."""

"""A transformer as matrices, its passes, and the time of a pass on tensor-parallel GPUs."""

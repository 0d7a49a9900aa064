"""A transformer as a list of matrices, its passes, and their times on tensor-parallel GPUs."""

"""A question about a model, and the lines that answer it."""

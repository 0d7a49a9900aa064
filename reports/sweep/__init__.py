"""Every batch and context of a model as one frame, and its figures."""

"""Predictions for every batch and context of a model: one frame, and its figures."""

"""The napkin without a model: plain functions of numbers or arrays, and the same by name."""

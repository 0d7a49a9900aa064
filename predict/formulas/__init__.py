"""Formulas that need no model: plain functions of numbers or arrays, and a catalog that finds them by name."""

"""Compares expected time with measured tables: reads them, judges errors, draws figures, writes docs/accuracy.md."""

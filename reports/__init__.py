"""Reads the records of napkin-bench: tables, plots, report, comparison. Never touches a GPU."""

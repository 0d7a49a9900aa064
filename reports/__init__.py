"""Reads records: tables, plots, report, comparison. Never touches a GPU."""

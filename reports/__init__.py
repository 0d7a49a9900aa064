"""The reading of records: tables, plots, report, comparison. Never touches a GPU."""

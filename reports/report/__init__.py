"""The report of a run: report.md, its figures, and report.html."""

"""One run: its records as a frame, its tables, figures and report; comparison of two runs."""

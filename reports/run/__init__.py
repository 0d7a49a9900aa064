"""One run: its records as a frame, its tables, figures and page; two of them side by side."""

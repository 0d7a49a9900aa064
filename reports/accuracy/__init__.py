"""Expected time against measured tables: reading them, errors, figures, docs/accuracy.md."""

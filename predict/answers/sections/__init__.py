"""The sections of an answer: each yields its lines and notes."""

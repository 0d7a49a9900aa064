"""The scorecard: every rule of thumb judged by measured times."""

"""A server's benchmark log against the napkin: what was measured beside what was possible at that load."""

"""A page in a browser that asks our own predictors, served on this machine alone."""

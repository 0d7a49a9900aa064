"""Fits the constants of expected time to measured rows; reads and writes the file that holds them."""

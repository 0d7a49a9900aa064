"""The constants of expected time from measured rows, and the file that holds them."""

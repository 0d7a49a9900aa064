"""Any number of machines side by side: two runs row by row, more runs and tables by share of the roof."""

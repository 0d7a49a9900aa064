"""The command `napkin-bench`: the commands of all packages under one name, found without loading them."""

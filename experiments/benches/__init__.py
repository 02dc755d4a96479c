"""How fast things are, beside each other in one run."""

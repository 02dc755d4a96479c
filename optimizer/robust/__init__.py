"""Plans for samples of popularity, with a lower bound."""

"""Laws and distributions, fitted with their intervals."""

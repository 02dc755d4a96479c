"""Public measurements into constants."""

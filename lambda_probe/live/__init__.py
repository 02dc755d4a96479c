"""A model deployed for real, and the rows of its calls."""

"""The two ways in which figure 10 counts a token."""

COUNTING = ("hard", "expected")
"""`hard` counts each token for its likeliest expert, as the paper does; `expected` its whole posterior."""

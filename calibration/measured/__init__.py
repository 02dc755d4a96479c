"""A campaign's rows into constants."""

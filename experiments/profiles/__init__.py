"""Probing a platform, and reading the profiles made of it."""

"""Texts to route."""

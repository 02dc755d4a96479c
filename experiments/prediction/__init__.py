"""Predicting popularity, and tuning its profile table."""

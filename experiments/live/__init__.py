"""Live validation: the same plans, tokens and platform, simulated and served for real."""

"""Campaigns of probes: steps, samples, measurements."""

"""Open-loop serving of a scenario."""

"""One self-contained HTML page of a run, and of two runs side by side (docs/experiments.md)."""

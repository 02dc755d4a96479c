"""Studies: what holds, measured over seeds and written as pages and tables."""

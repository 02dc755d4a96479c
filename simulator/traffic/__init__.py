"""Open-loop traffic: arrivals, functions, programs, metrics."""

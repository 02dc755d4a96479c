"""The platform simulated as a measurement, and profiles held against measurements."""

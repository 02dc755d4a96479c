"""The simulator held against the closed form, queueing theory, another simulator and public measurements."""

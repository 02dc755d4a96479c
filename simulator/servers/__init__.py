"""Servers: machines rented by time, a whole model on each, one queue."""

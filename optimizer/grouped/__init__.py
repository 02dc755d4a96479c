"""Several experts in one function: problems rewritten, then solved."""

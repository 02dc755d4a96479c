"""What features share: console, style, provenance, keys of results."""

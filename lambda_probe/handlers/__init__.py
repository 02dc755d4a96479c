"""Code that runs inside functions: each file goes into a zip of its own and imports nothing of this project."""

"""The commands of `smoe`, by what they are about."""

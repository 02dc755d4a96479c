"""The command line, as the tests of commands have it."""

from tests.experiments.conftest import smoe

__all__ = ["smoe"]

"""Every solver's front. This project's."""

from experiments.paper.figures.rivals.figure import FIGURE

__all__ = ["FIGURE"]

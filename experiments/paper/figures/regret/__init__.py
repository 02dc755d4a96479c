"""What a wrong prediction costs. This project's."""

from experiments.paper.figures.regret.figure import FIGURE

__all__ = ["FIGURE"]

"""How well expert popularity is predicted. This project's."""

from experiments.paper.figures.predictors.figure import FIGURE

__all__ = ["FIGURE"]

"""Figure 10: errors of the predicted popularity."""

from experiments.paper.figures.fig10.figure import FIGURE

__all__ = ["FIGURE"]

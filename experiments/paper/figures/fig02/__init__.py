"""Figure 2: the CPU cluster against Lambda."""

from experiments.paper.figures.fig02.figure import FIGURE

__all__ = ["FIGURE"]

"""Figure 12: cost over the target throughput."""

from experiments.paper.figures.fig12.figure import FIGURE

__all__ = ["FIGURE"]

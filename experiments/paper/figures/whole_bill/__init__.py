"""The paper's objective against the whole bill. This project's."""

from experiments.paper.figures.whole_bill.figure import FIGURE

__all__ = ["FIGURE"]

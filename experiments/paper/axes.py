"""Axes that a person reads: numbers instead of powers of ten."""

from __future__ import annotations

from typing import Any

from experiments.tools.style import rounded


def plain_log(axis: Any) -> None:
    """Numbers on a logarithmic axis: at powers of ten; where it spans less than two of them, between them too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    narrow = high / low < 100
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 3.0, 5.0) if narrow else (1.0,), numticks=12 if narrow else 5)
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))
    axis.set_minor_formatter(NullFormatter())

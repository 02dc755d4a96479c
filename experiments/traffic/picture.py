"""The distribution of the latency of requests: a curve a replication, and the promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.tools import style

POINTS = 500
MARKED = (0.5, 0.9, 0.99)


def draw_latency(latencies: Sequence[np.ndarray], slo_s: float, title: str, path: Path) -> None:
    """Draw the share of served requests within a latency to `path`.png and `path`.svg.

    Args:
        latencies: of each replication, s, shape (requests,); empty ones are left out.
        slo_s: the promised latency, s.
    """
    figure = style.new_figure(6.4, 3.6)
    axes = figure.subplots()
    share = np.concatenate([np.linspace(0, 0.99, POINTS), np.linspace(0.99, 1, POINTS // 5)])
    served = [each for each in latencies if len(each)]
    for each in served:
        axes.plot(
            np.quantile(each, share), share, color=style.BLUE, linewidth=1.2, alpha=max(0.25, 1 / len(served))
        )
    together = np.concatenate(served)
    for mark, value in zip(MARKED, np.quantile(together, MARKED).tolist(), strict=True):
        axes.plot(value, mark, "o", color=style.BLUE, markersize=5)
        axes.annotate(f"  {mark:.0%}: {value:.3g} s", (value, mark), va="top", fontsize=8, clip_on=True)
    axes.axvline(slo_s, color=style.RED, linewidth=1.2, linestyle="--")
    axes.annotate(f" SLO {slo_s:g} s", (slo_s, 0.03), color=style.RED, fontsize=8)
    axes.set_xlim(0, 1.12 * max(slo_s, float(np.quantile(together, 0.999))))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("latency of a request, s")
    axes.set_ylabel("share of the served requests")
    axes.set_title(
        f"{title}: {len(together):,} requests, {len(served)} replication{'s' * (len(served) > 1)}", loc="left"
    )
    axes.grid(alpha=0.25)
    style.save(figure, path)

"""A layer's whole front with one method, without solving rows that cannot be on it.

A range of rows has labels that bound those of its rows (`LayerOptions.points`). Where labels that are known
dominate all of them, no row of the range adds to the front. Else one of its rows is solved and the others are
split, with the deployments that can be of use where a bounding label is not dominated.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from optimizer.exact.candidates import Window
from optimizer.exact.layer_fronts import BLOCK, LayerFront, LayerOptions
from simulator.plan import COMMUNICATIONS, Communication

PARTS = 4
"""A range is split into this many, beside the row that is solved."""


@dataclass(frozen=True)
class _Range:
    """Rows of a method, from `first` to before `end`, and the window that is looked at."""

    first: int
    end: int
    window: Window = Window()  # noqa: RUF009 - immutable

    def __len__(self) -> int:
        return self.end - self.first

    def split(self) -> tuple[np.ndarray, list["_Range"]]:
        """Its middle row, and the others in parts."""
        middle = (self.first + self.end) // 2
        inner = np.linspace(self.first, self.end, PARTS + 1).astype(int).tolist()
        pairs = itertools.pairwise(sorted({*inner, middle, middle + 1}))
        return np.array([middle]), [_Range(a, b, self.window) for a, b in pairs if a != middle]


def whole_front(options: LayerOptions, communication: Communication) -> LayerFront:
    """The experts' front with one method, the gate's bill not in it; without labels where the method cannot be
    used."""
    if not options.reached:
        none, method = np.zeros(1), np.array([COMMUNICATIONS.index(communication)])
        return LayerFront(none, none, method, none, none)
    rows = options.rows(communication)
    known = LayerFront.empty()
    ranges = [_Range(0, len(rows))] if len(rows) else []
    while ranges:
        parts: list[_Range] = []
        for x in ranges:
            at_once = max(1, BLOCK // options.size(x.window))
            if len(x) <= max(at_once, PARTS):
                solved = np.arange(x.first, x.end)
            else:
                solved, others = x.split()
                parts += others
            blocks = [solved[k : k + at_once] for k in range(0, len(solved), at_once)]
            labels = [options.labels(communication, rows[block], x.window) for block in blocks]
            known = LayerFront.joined([known, *labels])
        ranges = [open_ for x in parts if (open_ := _open(options, communication, rows, x, known)) is not None]
    return known


def _open(
    options: LayerOptions, communication: Communication, rows: np.ndarray, x: _Range, known: LayerFront
) -> _Range | None:
    """The range with the window in which its labels may be on the front; None where they cannot."""
    low, high = rows[[x.first]], rows[[x.end - 1]]
    _, cost, latency, finish = options.points(communication, low, high, x.window)
    before = np.searchsorted(known.latency_s, latency, side="right") - 1
    undecided = np.flatnonzero((before < 0) | (known.cost[before] > cost))
    if not len(undecided):
        return None
    from_s = float(finish[undecided[0]])
    until_s = float(finish[undecided[-1] + 1 :].min(initial=np.inf))
    place = options.useful(communication, float(low[0]), float(high[0]), x.window, from_s, until_s)
    return _Range(x.first, x.end, Window(place, from_s))

"""Billing rules read off REPORT lines: how durations are rounded, and whether INIT is billed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.measured.rows import Measurements
from simulator.profiles.constant import Dated
from simulator.profiles.groups import PriceConstants

if TYPE_CHECKING:
    import pandas as pd

SHOWN_MS = 0.0101  # durations are shown to 0.01 ms, rounded
AGREE = 0.99  # of the lines


@dataclass(frozen=True)
class Rule:
    """A rule as measured.

    Attributes:
        name: of the profile's. value: measured. lines, agree: REPORT lines that tell it, and those that follow it.
        changed: whether the base profile says otherwise.
    """

    name: str
    value: float
    lines: int
    agree: int
    changed: bool

    @property
    def said(self) -> str:
        """In words."""
        verdict = "changed" if self.changed else "confirmed"
        return f"prices.{self.name}: {self.value:g}, {verdict}: {self.agree:,} of {self.lines:,} REPORT lines"


def billing_rules(measured: Measurements, prices: PriceConstants) -> tuple[PriceConstants, list[Rule]]:
    """The prices with every rule that REPORT lines follow, and what became of each; others stay as they are."""
    rows = measured.rows[measured.rows.duration_s.notna() & measured.rows.reported_memory_mb.notna()]
    rules: list[Rule] = []
    step_ms = _step_ms(rows[rows.init_s.isna()])
    if step_ms is None:
        return prices, rules
    found = [("billing_step_s", _rule(rows[rows.init_s.isna()], step_ms, init=False), step_ms / 1000)]
    cold = rows[rows.init_s.notna()]
    for name, kind in (("init_is_billed", "zip"), ("image_init_is_billed", "image")):
        lines = cold[cold.package_type == kind]
        lines = lines[_billed_ms(lines, step_ms, init=True) > _billed_ms(lines, step_ms, init=False)]
        billed, free = (_rule(lines, step_ms, init=init) for init in (True, False))
        found.append((name, max(billed, free, key=lambda each: each[1]), float(billed[1] > free[1])))
    for name, (count, agree), value in found:
        if not count or agree < AGREE * count:
            continue
        rule: Dated = getattr(prices, name)
        changed = abs(rule.on(prices.date) - value) > 1e-9
        said = f"{agree:,} of {count:,} REPORT lines, {measured.what}, {measured.origin.date}"
        since = rule.since | {prices.date: value} if changed else rule.since
        source = f"{rule.source}; {'otherwise' if changed else 'confirmed'} by {said}"
        prices = prices.model_copy(update={name: rule.model_copy(update={"since": since, "source": source})})
        rules.append(Rule(name, value, count, agree, changed))
    return prices, rules


def _step_ms(rows: pd.DataFrame) -> int | None:
    """What all billed durations are multiples of, ms, if it is longer than their distance from the durations."""
    billed = np.round(rows.billed_s.to_numpy(float) * 1000).astype(int)
    billed = billed[billed > 0]
    return int(np.gcd.reduce(billed)) if len(set(billed.tolist())) > 1 else None


def _billed_ms(rows: pd.DataFrame, step_ms: int, init: bool) -> np.ndarray:
    """What would be billed, ms, of durations as shown."""
    shown = (rows.duration_s + (rows.init_s.fillna(0.0) if init else 0.0)).to_numpy(float) * 1000
    return np.ceil((shown - SHOWN_MS) / step_ms) * step_ms


def _rule(rows: pd.DataFrame, step_ms: int, init: bool) -> tuple[int, int]:
    """Lines, and those that are billed so; a duration within what is shown of a step may go either way."""
    shown = (rows.duration_s + (rows.init_s.fillna(0.0) if init else 0.0)).to_numpy(float) * 1000
    billed = rows.billed_s.to_numpy(float) * 1000
    agree = (billed >= shown - SHOWN_MS) & (billed - step_ms < shown + SHOWN_MS)
    return len(rows), int(agree.sum())

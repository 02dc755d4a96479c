"""The study of calibration: if these fail, it counts intervals that hold the truth wrongly."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from calibration.check.hidden import FACTORS, OPTIONAL, Recovered, hidden_platform
from experiments.benches import calibration
from experiments.benches.calibration import Hidden, believed, study
from experiments.tools.kept import Store
from simulator.profiles.schema import load_profile
from simulator.profiles.walk import constant_at


def row(found: float, interval: tuple[float, float] | None, name: str = "a", seed: int = 0) -> Recovered:
    return Recovered(0, seed, name, 10.0, found, interval, bracket=False, kept=None, ks=None)


def test_intervals_and_errors_are_counted_by_constant_and_together() -> None:
    rows = [row(10.1, (9.0, 11.0)), row(12.0, (11.0, 13.0), seed=1), row(10.0, None, "b")]
    a, b, both = believed(rows)
    assert (a.name, a.hold, a.intervals, a.coverage) == ("a", 1, 2, 0.5)
    assert (b.intervals, b.coverage) == (0, None)
    assert (both.measured, both.coverage, round(both.worst, 9)) == (3, 0.5, 0.2)


def test_of_a_hidden_platform_nothing_is_as_in_the_base() -> None:
    """If this fails, a constant that was merely kept counts as found."""
    base = load_profile()
    hidden = [hidden_platform(base, number) for number in range(6)]
    for path in FACTORS:
        values = {constant_at(profile, path).median for profile in (base, *hidden)}
        assert len(values) == 7, path
    assert [profile.start.keep_alive_halving_s is not None for profile in hidden] == [False, True] * 3
    assert [constant_at(profile, next(iter(OPTIONAL))) is not None for profile in hidden].count(True) == 2
    assert hidden_platform(base, 3) == hidden[3]


def test_a_study_that_was_stopped_goes_on_from_its_campaigns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes hours: forty campaigns of minutes each."""
    made: list[tuple[int, int]] = []

    def campaign(cell: Hidden) -> list[dict[str, Any]]:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((cell.platform, cell.seed))
        return [asdict(row(10.0 + cell.platform, (9.0, 11.0), seed=cell.seed))]

    monkeypatch.setattr(calibration, "one_campaign", campaign)
    with pytest.raises(KeyboardInterrupt):
        study(2, 2, "standard", Store(tmp_path))
    made.clear()
    found = study(2, 2, "standard", Store(tmp_path))
    assert made == [(1, 1)]
    assert found == [row(10.0 + k, (9.0, 11.0), seed=seed) for seed in (0, 1) for k in (0, 1)]
    assert believed(found)[-1].hold == 4

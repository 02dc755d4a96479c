"""The report of a calibration: a table of every quantity, what was not measured, a picture each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from calibration.calibrated import NOT_MEASURED, Calibration
from calibration.fitting.bootstrap import Fitted
from experiments.profiles.picture import draw_fit
from experiments.profiles.reading import constants_of
from experiments.tools.markdown import table
from moe.files import write_whole
from simulator.profiles.constant import Dated

HEAD = """# Calibration of `{name}` from {told}

Base: `{base}`. `fit` is the fitted value (of a distribution its median, of a published jitter its 99% quantile)
with its 95% interval (Student's t over all runs, or the bracket that the data cannot tell apart); errors are
relative, on the runs that choose (selection) and on those that choose nothing (test). `-`: fewer than three runs
cannot be split, one run has no interval. `kept`: the base profile's value describes most runs at least as well as
a fit to the others, and stands.

"""
COLUMNS = (
    "constant",
    "unit",
    "base",
    "fit",
    "95% interval",
    "family or estimator",
    "values, runs",
    "error on selection: fit, base",
    "error on test: fit, base",
    "stands",
    "region, date",
    "file, sha256",
)


def write_report(made: Calibration, base: str, folder: Path, told: str = "public measurements") -> Path:
    """Write `report.md` and a picture of each quantity into a folder, and return the page's path."""
    parts = [HEAD.format(name=made.profile.name, base=base, told=told)]
    parts.append(table(COLUMNS, map(_row, made.fits)))
    parts.append(f"\n\nNot measured, kept from `{base}`: {', '.join(not_measured(made))}.\n")
    parts += [f"\n- `{name}`, by no campaign: {why}" for name, why in by_no_campaign(made)] + ["\n"]
    if made.not_in_base:
        parts.append(f"\nMeasured, but no package of the base profile: {', '.join(made.not_in_base)}.\n")
    parts += [f"\n- `{rule.name}`: {rule.said}" for rule in made.rules]
    parts += [f"\n- left out, {count:,} measurements: {reason}" for reason, count in made.left_out.items()]
    parts.append("\n")
    for found in made.fits:
        name = ".".join(found.quantity.path)
        draw_fit(found, folder / name.replace(".", "-"))
        parts.append(f"\n## {name}\n\n{found.quantity.source}\n\n![{name}]({name.replace('.', '-')}.png)\n")
    page = folder / "report.md"
    write_whole(page, "".join(parts))
    return page


def not_measured(made: Calibration) -> list[str]:
    """Names of the constants that no file measured."""
    leaves = constants_of(made.profile).items()
    return [name for name, leaf in leaves if not isinstance(leaf, Dated) and leaf.kept == "not measured"]


def by_no_campaign(made: Calibration) -> list[tuple[str, str]]:
    """What stands in the profile that no campaign measures: names of constants and groups, and why."""
    named = ((".".join(path), why) for path, why in NOT_MEASURED.items())
    kept = not_measured(made)
    return [(name, why) for name, why in named if any(f"{each}.".startswith(f"{name}.") for each in kept)]


def summary(made: Calibration, base: str) -> Iterator[str]:
    """Lines for a terminal."""
    for found in made.fits:
        fit, number = found.fit, found.quantity.law.number
        between = f"[{fit.interval[0]:.4g}, {fit.interval[1]:.4g}]" if fit.interval else "(one run: no interval)"
        was = "had none" if found.before is None else f"was {number(found.before.value):.4g}"
        stands = ", which describes most runs at least as well and is kept" if found.constant.kept else ""
        yield (
            f"{'.'.join(found.quantity.path)}: {number(found.fitted.value):.4g} {found.quantity.unit} {between} "
            f"by {fit.method}, {fit.samples:,} values in {fit.runs} runs; {was}{stands}"
        )
    yield from (rule.said for rule in made.rules)
    yield from (f"left out, {count:,} measurements: {reason}" for reason, count in made.left_out.items())
    for package in made.not_in_base:
        yield f"{package}: measured, but no package of {base}"
    yield from (f"{name}: measured by no campaign: {why}" for name, why in by_no_campaign(made))
    kept = sum(found.constant.kept is not None for found in made.fits)
    yield (
        f"{len(made.fits)} constants measured, {kept} of them kept from {base}; "
        f"{len(not_measured(made))} not measured, kept and marked so"
    )


def _row(found: Fitted) -> tuple[str, ...]:
    fit, number = found.fit, found.quantity.law.number
    between = f"{fit.interval[0]:.4g} to {fit.interval[1]:.4g}" if fit.interval else "-"
    return (
        f"`{'.'.join(found.quantity.path)}`",
        found.quantity.unit,
        "none" if found.before is None else f"{number(found.before.value):.4g}",
        f"{number(found.fitted.value):.4g}",
        between,
        fit.method,
        f"{fit.samples:,}, {fit.runs}",
        *(
            ", ".join("-" if x is None else f"{x:.1%}" for x in errors or (None, None))
            for errors in (found.select_error, found.test_error)
        ),
        "base, kept" if found.constant.kept else "fit",
        f"{fit.region or 'not stated'}, {found.fitted.date}",
        f"{fit.file}, {fit.sha256[:12]}",
    )

"""Under which conditions is serverless MoE cheaper? Swings, break-even points and Sobol indices of the ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from experiments.studies.headline import FACTORS, OUTPUTS, Factor, Headline, evaluate, nominal
from experiments.tools.kept import Store, Update, unseen
from experiments.tools.paper_numbers import BELOW_CLUSTER, BELOW_LAMBDAML, SLOWER_THAN_LAMBDAML
from moe.files import FileModel
from moe.spec import MoESpec, load_spec
from simulator.profiles.schema import PlatformProfile, load_profile

Point: TypeAlias = dict[str, float]

CHUNK = 16  # points in a cell
BISECTIONS = 12
CLAIMS = {
    "cost": 1 - BELOW_LAMBDAML,
    "tokens_per_s": 1 - SLOWER_THAN_LAMBDAML,
    "second": 1 - BELOW_CLUSTER,
    "month": 1 - BELOW_CLUSTER,
    "hour": 1 - BELOW_CLUSTER,
}
"""Ratios at which the paper's claims hold: cost at most, throughput at least."""


class Evaluate(Protocol):
    """Evaluates points of the factors."""

    def __call__(self, points: Sequence[Point], update: Update = unseen) -> list[Headline]:
        """The headline ratios at each point; `update` is told (done, total, per second)."""
        ...


@dataclass(frozen=True)
class Swing:
    """One ratio over the range of one factor, the others at their nominal values.

    Attributes:
        output, factor: which. low, high: the ratio at the ends of the factor's range.
        claim_at, cheaper_at: where in that range the ratio passes the paper's claim, and 1; None: nowhere.
    """

    output: str
    factor: str
    low: float
    high: float
    claim_at: float | None
    cheaper_at: float | None


@dataclass(frozen=True)
class SobolIndex:
    """Share of one ratio's variance (of its logarithm) that a factor explains.

    Attributes:
        output, factor: which. first, total: alone; with all interactions.
        first_half, total_half: half of the 95% intervals.
    """

    output: str
    factor: str
    first: float
    first_half: float
    total: float
    total_half: float


@dataclass(frozen=True)
class Sensitivity:
    """The study.

    Attributes:
        model, profile: what was varied. nominal: the ratios there. swings, indices: by output and factor.
        holds: share of the sampled points at which each claim holds; cheaper: at which the ratio is below 1.
        samples: points of the Sobol sequence.
    """

    model: str
    profile: str
    nominal: dict[str, float]
    swings: list[Swing]
    indices: list[SobolIndex]
    holds: dict[str, float]
    cheaper: dict[str, float]
    samples: int


class Points(FileModel):
    """Points of the factors, which are evaluated and kept together."""

    model: str
    profile: str
    seed: int
    points: tuple[Point, ...]


def evaluator(model: str, profile: str, seed: int, store: Store) -> Evaluate:
    """Evaluates the points that the store has not; names of a model and a profile, or their files."""

    def run(points: Sequence[Point], update: Update = unseen) -> list[Headline]:
        chunks = [tuple(points[first : first + CHUNK]) for first in range(0, len(points), CHUNK)]
        cells = [Points(model=model, profile=profile, seed=seed, points=each) for each in chunks]

        def of_points(done: int, total: int, rate: float) -> None:
            update(min(done * CHUNK, len(points)), len(points), rate * CHUNK)

        found = store.values("points", headlines, cells, of_points)
        return [Headline(**each) for of_cell in found for each in of_cell]

    return run


def headlines(at: Points) -> list[dict[str, Any]]:
    """The headline ratios at points."""
    spec, profile = load_spec(at.model), load_profile(at.profile)
    return [asdict(evaluate(spec, profile, point, at.seed)) for point in at.points]


def study(
    spec: MoESpec,
    profile: PlatformProfile,
    run: Evaluate,
    base: int,
    seed: int,
    update: Update = unseen,
) -> Sensitivity:
    """All three views of the headline ratios.

    Args:
        spec, profile: the model and the platform.
        run: evaluates points.
        base: points of the Sobol sequence; all in all base x (factors + 2) are evaluated. A power of two.
        seed: of the sequence. update: told (done, total, per second) of the sampled points.
    """
    at = run([nominal()])[0]
    swings = _swings(run)
    indices, holds, cheaper, samples = _sobol(run, base, seed, update)
    return Sensitivity(
        spec.name,
        profile.name,
        {name: at.value(name) for name in OUTPUTS},
        swings,
        indices,
        holds,
        cheaper,
        samples,
    )


def _swings(run: Evaluate) -> list[Swing]:
    """Each factor alone, over its range, and where the ratios pass the claims and 1."""
    ends = run([nominal() | {f.name: value} for f in FACTORS for value in (f.low, f.high)])
    found = []
    for k, factor in enumerate(FACTORS):
        low, high = ends[2 * k], ends[2 * k + 1]
        for output, claim in CLAIMS.items():
            a, b = low.value(output), high.value(output)
            moved = not np.isclose(a, b, rtol=1e-3)
            claim_at = _crossing(run, factor, output, claim, a, b) if moved else None
            at_one = output != "tokens_per_s" and moved
            cheaper_at = _crossing(run, factor, output, 1.0, a, b) if at_one else None
            found.append(Swing(output, factor.name, a, b, claim_at, cheaper_at))
    return found


def _crossing(run: Evaluate, factor: Factor, output: str, level: float, a: float, b: float) -> float | None:
    """Where a ratio passes a level between the ends of a factor's range; None where both ends are on one side."""
    if (a <= level) == (b <= level):
        return None
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        value = run([nominal() | {factor.name: float(factor.at(middle))}])[0].value(output)
        low, high = (middle, high) if (value <= level) == (a <= level) else (low, middle)
    return float(factor.at((low + high) / 2))


def _sobol(
    run: Evaluate, base: int, seed: int, update: Update
) -> tuple[list[SobolIndex], dict[str, float], dict[str, float], int]:
    """Saltelli's sample, Sobol's indices of the logarithms, and how often the claims hold."""
    from SALib.analyze import sobol as analysis
    from SALib.sample import sobol as sampling

    names = [factor.name for factor in FACTORS]
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    shares = sampling.sample(problem, base, calc_second_order=False, seed=seed)
    points = [{f.name: float(f.at(x)) for f, x in zip(FACTORS, row, strict=True)} for row in shares]
    results = run(points, update)
    found, holds, cheaper = [], {}, {}
    for output, claim in CLAIMS.items():
        values = np.array([result.value(output) for result in results])
        logs = np.log(values)
        rng = np.random.default_rng(seed)  # SALib takes the number 0 for no seed
        index = analysis.analyze(problem, (logs - logs.mean()) / logs.std(), calc_second_order=False, seed=rng)
        for k, name in enumerate(names):
            found.append(
                SobolIndex(output, name, *(float(index[key][k]) for key in ("S1", "S1_conf", "ST", "ST_conf")))
            )
        holds[output] = float(np.mean(values >= claim if output == "tokens_per_s" else values <= claim))
        cheaper[output] = float(np.mean(values < 1))
    both = np.array([r.cost <= CLAIMS["cost"] and r.tokens_per_s >= CLAIMS["tokens_per_s"] for r in results])
    return found, holds | {"cost and throughput": float(both.mean())}, cheaper, len(points)

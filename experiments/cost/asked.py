"""What a person asks, checked: numbers of requests, traffic, contenders, prices of another region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from experiments.cost.question import check_prices
from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model
from moe.spec import MoESpec
from simulator.profiles.contenders import Contender, contender_names, load_contender
from simulator.profiles.instances import catalogue
from simulator.traffic.request_file import read_requests
from simulator.traffic.requests import Traffic, shape_names, traffic_of_shape, traffic_of_trace

MOST_REQUESTS = 1e12
LAST = "gpu"
"""A contender of many sizes, of which some are contenders of their own: they go first where both cost the same."""


class PriceFile(FileModel):
    """Prices of another region by item, such as `lambda.gb_s`, `fargate.vcpu_hour`, `ec2.c8g.large`."""

    region: str
    price_list_date: str = Field(min_length=7)
    prices: dict[str, float] = Field(min_length=1)


def read_prices(path: Path, contenders: Mapping[str, Contender]) -> PriceFile:
    """A file of prices. Raises InputError for an item that no contender has."""
    found = read_model(PriceFile, path)
    check_prices(found.prices, contenders, str(path))
    return found


def numbers_of(text: str) -> list[float]:
    """`1e6`, or `1e4..1e9` by decades. Raises InputError."""
    low, dots, high = text.partition("..")
    said = f"--requests-per-month {shortened(text)}"
    try:
        ends = [float(low), float(high)] if dots else [float(low)]
    except ValueError:
        raise InputError(f"{said}: expected a number such as 1e6, or a range such as 1e4..1e9") from None
    if not all(0 < end <= MOST_REQUESTS for end in ends):
        raise InputError(f"{said}: expected requests, more than 0 and up to {MOST_REQUESTS:g}")
    if len(ends) == 2 and ends[0] >= ends[1]:
        raise InputError(f"{said}: expected a range that rises")
    if len(ends) == 1:
        return ends
    first, last = math.ceil(math.log10(ends[0]) - 1e-9), math.floor(math.log10(ends[1]) + 1e-9)
    return sorted({ends[0], ends[1], *(10.0**k for k in range(first, last + 1))})


def contenders_of(only: Sequence[str]) -> dict[str, Contender]:
    """The packaged contenders, or those that are named: also files, and instances of EC2. Raises InputError."""
    names = sorted(contender_names(), key=lambda name: (name == LAST, name))
    if not only:
        return {name: load_contender(name) for name in names}
    found = {}
    for name in only:
        known = [
            *contender_names(),
            *(f"{'gpu' if each.gpus else 'ec2'}-{each.name}" for each in catalogue().values()),
        ]
        if Path(name).suffix not in (".yaml", ".yml") and name not in known:
            raise InputError(f"--only: no contender {shortened(name)}{nearest(name, known)}")
        contender = load_contender(name)
        found[contender.name] = contender
    return found


def traffic_of(
    source: str | None,
    spec: MoESpec,
    tokens_in: float | None,
    tokens_out: float | None,
    columns: Mapping[str, str] | None,
    peak_to_mean: float,
) -> Traffic:
    """What arrives: Poisson with tokens that are said, a packaged shape, or a trace. Raises InputError."""
    if source is None or source == "poisson":
        if tokens_in is None:
            raise InputError(
                "cost: expected --tokens-in, or --traffic with a file or one of: " + ", ".join(shape_names())
            )
        found = Traffic("poisson", 1.0, tokens_in, tokens_out or 0.0)
    elif Path(source).suffix or Path(source).exists():
        given = None if tokens_in is None else (tokens_in, tokens_out or 0.0)
        found = traffic_of_trace(Path(source).name, read_requests(source, columns, given))
    else:
        found = traffic_of_shape(source)
    data: dict[str, Any] = {"peak_to_mean": peak_to_mean, "most_tokens": spec.context_tokens}
    found = Traffic(**vars(found) | data)
    if not spec.generates and not (found.tokens_out == 0 and found.trace is None):
        if source is None or source == "poisson":
            raise InputError(f"--tokens-out: {spec.name} writes no tokens: it is no decoder; expected none")
        found = found.without_output()
    _check_context(found, spec, fixed=found.trace is None and isinstance(found.tokens_in, float | int))
    return found


def _check_context(traffic: Traffic, spec: MoESpec, fixed: bool) -> None:
    """Raise InputError for requests that are all longer than the model can read."""
    if spec.context_tokens is None or not fixed or traffic.beyond() == 0:
        return
    longest = float(traffic.tokens_in) + float(traffic.tokens_out)  # type: ignore[arg-type]
    raise InputError(
        f"--tokens-in, --tokens-out: {longest:,.0f} tokens are beyond the context of {spec.name}, "
        f"{spec.context_tokens:,}"
    )

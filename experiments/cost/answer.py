"""From what is asked, by the command or in a file, to the answer: its tables, its text, its JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.cost.asked import contenders_of, numbers_of, read_prices, traffic_of
from experiments.cost.compare import Compared, compare
from experiments.cost.files import REGION, as_data
from experiments.cost.question import Question
from experiments.cost.report import page, promised, why_not_table
from experiments.cost.sure import Surety, how_sure
from experiments.run.cost_schema import CostAsked
from experiments.tools.console import progress
from moe.errors import InputError
from moe.spec import MoESpec
from simulator.profiles.contenders import Contender
from simulator.profiles.schema import DEFAULT_PROFILE, load_profile, price_list_date
from simulator.servers.promise import read_promise, usual_promise


@dataclass(frozen=True)
class Asking:
    """What is asked, read and checked.

    Attributes:
        numbers: of requests a month, rising. draws: of the uncertain constants.
    """

    question: Question
    contenders: Mapping[str, Contender]
    numbers: list[float]
    region: str
    price_list_date: str
    draws: int


@dataclass(frozen=True)
class Answer:
    """Bills of all contenders, how sure the cheapest is, and both as JSON (`cost/1`)."""

    compared: Compared
    surety: Surety | None
    data: dict[str, Any]

    @property
    def nobody(self) -> str | None:
        """That no contender serves at any of the numbers that were asked for, in words; None: one does."""
        if any(offer.serves for _, offers in self.compared.points for offer in offers):
            return None
        usual = "; that is the usual one: --slo says another" if self.compared.question.assumed else ""
        return f"no contender keeps the promise, {promised(self.compared.question)}{usual}"

    @property
    def text(self) -> str:
        """What is printed: the table and sentences; or why nobody serves."""
        if self.nobody is not None:
            return why_not_table(self.compared.points[0][1])
        return (
            f"{page(self.compared, self.surety)}\nPrices of {self.data['price_list_date']}, {self.data['region']}."
        )


def asking(asked: CostAsked, spec: MoESpec, seed: int) -> Asking:
    """What is asked of a model, checked. Raises InputError, which names options of the command."""
    promise = usual_promise(spec.generates) if asked.slo is None else read_promise(asked.slo)
    if not spec.generates and (promise.ttft_s or promise.tpot_s):
        raise InputError(f"--slo: {spec.name} writes no tokens: expected latency, not ttft or tpot")
    traffic = traffic_of(asked.traffic, spec, asked.tokens_in, asked.tokens_out, asked.columns, asked.peak_to_mean)
    contenders = contenders_of(asked.only)
    region, day, prices = REGION, price_list_date(DEFAULT_PROFILE), {}
    if asked.region_prices is not None:
        read = read_prices(Path(asked.region_prices), contenders)
        region, day, prices = read.region, read.price_list_date, read.prices
    if asked.requests_per_month is None and traffic.per_month == 1.0:
        raise InputError("cost: expected --requests-per-month")
    given = asked.requests_per_month
    numbers = [traffic.per_month] if given is None else numbers_of(str(given))
    loaded = {DEFAULT_PROFILE: load_profile()}
    question = Question(spec, traffic, promise, asked.pay, prices, loaded, seed, assumed=asked.slo is None)
    return Asking(question, contenders, numbers, region, day, asked.draws)


def answer(asked: Asking) -> Answer:
    """Compare the contenders, with progress."""
    question, contenders, numbers = asked.question, asked.contenders, asked.numbers
    found = _with_progress("comparing", "steps", lambda update: compare(question, contenders, numbers, update))
    surety = None
    there, offers = question.at(numbers[0]), found.points[0][1]
    if asked.draws and offers[0].serves:
        surety = _with_progress(
            "drawing", "draws", lambda update: how_sure(there, contenders, offers, asked.draws, update)
        )
    return Answer(found, surety, as_data(found, asked.region, asked.price_list_date, surety))


def _with_progress(doing: str, unit: str, do: Callable[[Callable[[int, int], None]], Any]) -> Any:
    """Do something that tells how far it is."""
    began = time.perf_counter()
    with progress(doing, unit) as update:
        return do(lambda done, total: update(done, total, done / (time.perf_counter() - began)))

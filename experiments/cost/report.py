"""The answer for people: one table within 80 columns, three sentences, what to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap

from experiments.cost.compare import Compared
from experiments.cost.offer import Offer, cheapest
from experiments.cost.question import Question
from experiments.cost.sure import Surety
from simulator.servers.promise import MISSED

WIDTH = 80
HEAD = f"{'contender':<24} {'USD/month':>11} {'USD/M tok':>9} {'first s':>8} {'tok s':>7} {'all s':>7} {'cold':>6}"


def page(compared: Compared, surety: Surety | None = None) -> str:
    """Everything that is printed."""
    lines = [*_title(compared.question)]
    for per_month, offers in compared.points:
        lines += ["", f"{shown(per_month)} requests a month", HEAD]
        for offer in offers:
            lines += _rows(compared.question.at(per_month), offer)
    lines += ["", *(line for text in sentences(compared) for line in wrap(text, WIDTH))]
    if surety is not None:
        lines += [line for text in surely(surety) for line in wrap(text, WIDTH, subsequent_indent="  ")]
    lines += [line for text in remarks(compared) for line in wrap(text, WIDTH, subsequent_indent="  ")]
    return "\n".join(lines)


def _title(question: Question) -> list[str]:
    tokens_in, tokens_out = (float(each.mean()) for each in question.traffic.sample(500))
    text = f"{question.spec.name} in {question.spec.precision}, {tokens_in:,.0f} tokens in"
    text += f", {tokens_out:,.0f} out" if question.spec.generates else ""
    usual = " (the usual promise: --slo says another)" if question.assumed else ""
    text += f"; arrivals: {question.traffic.arrivals}; {promised(question)}{usual}; {question.payment} prices"
    return wrap(text, WIDTH)


def promised(question: Question) -> str:
    """The SLO in words."""
    promise = question.promise
    rows = (("first token", promise.ttft_s), ("token", promise.tpot_s), ("request", promise.latency_s))
    said = [f"{name} in {most:g} s" for name, most in rows if most is not None]
    return f"{', '.join(said)} at p{promise.percentile:g}" if said else "nothing promised"


def _rows(question: Question, offer: Offer) -> list[str]:
    """A contender: its numbers, then what is deployed and the parts of its bill; or why it does not serve."""
    if not offer.serves:
        head, *rest = wrap(offer.why_not or "", WIDTH - 25)
        return [f"{offer.contender:<24} {head}", *(f"{'':<25}{line}" for line in rest)]
    assert offer.parts is not None
    assert offer.usd is not None
    per_million = offer.usd / question.tokens_per_month * 1e6
    p = question.promise.percentile
    times = "       -       -       -"
    if offer.times is not None:
        first, token, whole = _at(offer, p)
        writes = question.spec.generates and token > 0
        times = f"{f'{first:.3g}' if writes else '-':>8} {f'{token:.3g}' if writes else '-':>7} {whole:>7.3g}"
    cold = f"{offer.cold_share:.2%}" if offer.memory_mb is not None else "-"
    mark = "" if offer.played or offer.times is None else " *"
    parts = [f"{name.removesuffix('_usd')} {money(usd)}" for name, usd in asdict(offer.parts).items() if usd > 0]
    numbers = f"{offer.contender:<24} {money(offer.usd):>11} {per_million:>9.3g} {times} {cold:>6}{mark}"
    return [
        numbers,
        *wrap(f"{offer.words}: {', '.join(parts)}", WIDTH, initial_indent="  ", subsequent_indent="    "),
    ]


def _at(offer: Offer, percentile: float) -> tuple[float, float, float]:
    import numpy as np

    assert offer.times is not None
    times = offer.times
    first, token, whole = (float(np.percentile(each, percentile)) for each in vars(times).values())
    return first, token, whole


def sentences(compared: Compared) -> list[str]:
    """What is cheapest, by how much, and from which traffic on another one is."""
    per_month, offers = compared.points[0]
    best = cheapest(offers)
    if best is None or best.usd is None:
        return ["No contender keeps the promise."]
    where = f"At {shown(per_month)} requests a month"
    first = f"{where} {best.contender} is cheapest: {money(best.usd)} USD ({best.words})."
    others = [offer for offer in offers if offer.serves and offer.usd and offer.contender != best.contender]
    if others:
        following = others[0]
        more = (following.usd or 0.0) / best.usd - 1 if best.usd else 0.0
        by = f"{more:.0%} more" if more < 1 else f"{more + 1:.3g} times as much"
        second = f"Next is {following.contender}, {by}, at {money(following.usd or 0.0)} USD."
    else:
        second = "No other contender serves it."
    return [first, second, _from_where(compared), *_cheaper_but_late(compared)]


def _cheaper_but_late(compared: Compared) -> list[str]:
    """Who would be cheaper, were the promise no matter: said where nobody asked for it."""
    best = cheapest(compared.points[0][1])
    late = [o for o in compared.points[0][1] if o.why_not and o.why_not.startswith(MISSED) and o.usd is not None]
    least = min(late, key=lambda offer: offer.usd or 0.0, default=None)
    if not compared.question.assumed or best is None or least is None or (least.usd or 0.0) >= (best.usd or 0.0):
        return []
    return [f"Without that promise {least.contender} would cost {money(least.usd or 0.0)} USD ({least.why_not})."]


def _from_where(compared: Compared) -> str:
    if not compared.crossovers:
        return f"That one is cheapest from {_curve(compared)} requests a month."
    changes = [f"from {shown(each.requests_per_month)} on {each.after}" for each in compared.crossovers]
    start = compared.crossovers[0].before
    return f"Over {_curve(compared)} requests a month the cheapest is {start}, {', '.join(changes)} (closed form)."


def _curve(compared: Compared) -> str:
    return f"{shown(compared.curve[0][0])} to {shown(compared.curve[-1][0])}"


def surely(surety: Surety) -> list[str]:
    """Who is cheapest how surely, and what to measure next."""
    likely = sorted(((p, name) for name, p in surety.probability.items() if p > 0), reverse=True)
    said = ", ".join(f"{name} {p:.0%}" for p, name in likely)
    found = [f"Cheapest on {surety.draws} draws of the uncertain constants: {said}."]
    if surety.measure is None:
        return [*found, "Knowing any of them better would not change that."]
    worth = f"knowing it saves {money(surety.worth_usd)} USD a month on average"
    return [*found, f"Measure next: {surety.measure} ({worth}), by {surety.how}."]


def remarks(compared: Compared) -> list[str]:
    """What is to be known: where played and closed form differ, what was cut, what is not in the numbers."""
    found = [
        f"Played, {offer.contender} differs at {shown(per_month)}: {offer.differs}."
        for per_month, offers in compared.points
        for offer in offers
        if offer.differs
    ]
    if any(not offer.played and offer.parts and offer.times for _, offers in compared.points for offer in offers):
        found.append("* by the closed form: not played.")
    return [*found, *compared.notes]


def money(usd: float) -> str:
    """USD with three figures at least, and cents below a thousand."""
    return f"{usd:,.0f}" if usd >= 1000 else f"{usd:.2f}" if usd >= 1 else f"{usd:.2g}"


def shown(number: float) -> str:
    """A number of requests in words."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def why_not_table(offers: Sequence[Offer]) -> str:
    """Why nobody serves, one line each."""
    return "\n".join(f"{offer.contender:<24} {offer.why_not}" for offer in offers)

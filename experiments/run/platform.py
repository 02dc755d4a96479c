"""What `platform:` of an experiment names: a platform profile, a contender that is one, or one of servers.

A contender of servers serves the same batches beside Lambda: all sequences of a batch are there at once, so
nothing queues, and one machine takes as many of them in a pass as it has room for (`simulator.servers.machine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.run.methods import MILLION, Row, compared, dollars, row_named
from experiments.run.schema import Workload
from moe.errors import InputError
from moe.spec import MoESpec
from simulator.profiles.contenders import Contender, Lambda, Servers, load_any
from simulator.profiles.instances import catalogue
from simulator.profiles.schema import DEFAULT_PROFILE, PlatformProfile, load_profile
from simulator.servers.machine import Machine, machines
from simulator.servers.work import Work

SECONDS_PER_HOUR = 3600.0
SERVER = "server"
KEY = "platform.profile"


@dataclass(frozen=True)
class Platform:
    """What the functions run on, and the contender of servers beside them, if one is named."""

    profile: PlatformProfile
    server: Contender | None = None


def load_platform(name: str) -> Platform:
    """A platform profile or a contender: packaged, a YAML file, or an instance of the catalogue.

    What is Lambda has the profile and package of the contender; beside servers, Lambda is the usual one. Raises
    InputError.
    """
    if name in catalogue():
        name = f"{'gpu' if catalogue()[name].gpus else 'ec2'}-{name}"
    found = load_any(name)
    if isinstance(found, PlatformProfile):
        return Platform(found)
    if isinstance(found.runs, Servers):
        return Platform(load_profile(DEFAULT_PROFILE), found)
    if not isinstance(found.runs, Lambda) or found.runs.provisioned:
        billed = "instances by the month" if isinstance(found.runs, Lambda) else "tokens, and says no times"
        raise InputError(f"{KEY}: {name} is paid for {billed}: expected another one, or cost.only (docs/cost.md)")
    profile = load_profile(found.runs.platform)
    start = profile.start.model_copy(update={"package": found.runs.package})
    return Platform(profile.model_copy(update={"name": found.name, "start": start}))


@dataclass(frozen=True)
class ServedBatch:
    """A batch on one machine.

    Attributes:
        contender: its name. seconds: of the batch. usd: for these seconds, and for the request.
        experts_share: of its arithmetic, that is the experts'. token_s: of each further token that its sequences
            generate; None: none.
    """

    contender: str
    machine: Machine
    seconds: float
    usd: float
    experts_share: float
    token_s: float | None


def serve_batch(contender: Contender, spec: MoESpec, workload: Workload, limit_s: float | None) -> ServedBatch:
    """A batch on the machine that serves it for least within the limit; where none does, on the fastest.

    Raises InputError where no machine has room for the model and a sequence.
    """
    assert isinstance(contender.runs, Servers)
    runs, work, tokens = contender.runs, Work(spec), workload.sequence_tokens + workload.generate
    rented = [each for each in catalogue().values() if {each.name, each.family} & {*runs.instances}]
    fitting = [each for each in machines(runs, work, rented) if each.at_once(tokens) >= 1]
    if not fitting:
        raise InputError(
            f"{KEY}: no machine of {contender.name} has room for {spec.name}, {work.parameter_bytes / 1e9:,.1f} "
            f"GB, and a sequence of {tokens:,} tokens"
        )
    request_usd = 0.0 if runs.rent.request is None else runs.rent.request.median
    served = [_served(contender.name, each, workload, request_usd) for each in fitting]
    within = [each for each in served if limit_s is None or each.seconds <= limit_s]
    return min(within, key=lambda each: each.usd) if within else min(served, key=lambda each: each.seconds)


def _served(contender: str, machine: Machine, workload: Workload, request_usd: float) -> ServedBatch:
    spec, tokens, left = machine.work.spec, workload.sequence_tokens, workload.batch_sequences
    at_once = min(left, machine.at_once(tokens + workload.generate))
    passes, rest = divmod(left, at_once)
    seconds = passes * float(machine.pass_s(tokens, at_once))
    if rest:
        seconds += float(machine.pass_s(tokens, rest))
    experts = spec.moe_layers * spec.top_k * spec.expert_flops * tokens / float(machine.work.pass_flops(tokens))
    token_s = float(machine.token_s(at_once, tokens + workload.generate / 2)) * (passes + bool(rest))
    usd = machine.usd_per_hour / SECONDS_PER_HOUR * seconds + request_usd
    return ServedBatch(contender, machine, seconds, usd, experts, token_s if workload.generate > 1 else None)


def server_rows(served: ServedBatch, batch_tokens: float, utilisation: float, limit_s: float | None) -> list[Row]:
    """Rows of a machine that is paid for the seconds used, and for a month in which it is busy for a share."""
    per_million = served.usd / batch_tokens * MILLION
    name = served.contender.removeprefix("lambda-")
    paid = {f"{name}, by the second": 1.0, f"{name}, {utilisation:.0%} busy month": 1 / utilisation}
    return [
        Row(
            method=method,
            platform=SERVER,
            billed_usd=per_million * served.experts_share * factor,
            full_usd=None,
            total_usd=per_million * factor,
            latency_s=served.seconds,
            cold_latency_s=served.machine.start_s + served.seconds,
            tokens_per_s=batch_tokens / served.seconds,
            feasible=None if limit_s is None else served.seconds <= limit_s,
        )
        for method, factor in paid.items()
    ]


def server_generation(served: ServedBatch, sequences: int) -> dict[str, float | None]:
    """Times of a batch whose sequences generate, and what a million of their further tokens cost."""
    usd = None
    if served.token_s is not None:
        usd = served.machine.usd_per_hour / SECONDS_PER_HOUR * served.token_s / sequences * MILLION
    return {"first_token_s": served.seconds, "token_s": served.token_s, "usd_per_million_output_tokens": usd}


def server_finding(served: ServedBatch, rows: Sequence[Row]) -> str:
    """What the machine costs beside the plan, a sentence with a space before it."""
    best = row_named(rows, "ODS") or rows[0]
    mine = next(row for row in rows if row.platform == SERVER)
    assert mine.total_usd is not None
    name = served.machine.name
    whose = "" if name in served.contender else f" of {served.contender}"
    said = (
        f" One {name}{whose} costs {dollars(mine.total_usd)} per million tokens by "
        f"the second used, and takes {served.seconds:.3g} s a batch"
    )
    if not best.total_usd:
        return f"{said}."
    return f"{said}: {compared(mine.total_usd / best.total_usd)} the {best.method} plan's whole bill."

"""A platform in a few lines, whose every operation a test can make fail: what campaigns are tested on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from lambda_probe.account.calls import Attempt
from lambda_probe.account.report import Report, parse_report
from lambda_probe.campaign.backend import Account, BackendFacts, BackendPrices, ProbeFunction
from lambda_probe.campaign.works import Answer, ExpertPass, GetObjects, Multiply, PutObjects, Send, Wait, Work
from moe.errors import InputError

FLOPS = 50e9
KEEP_ALIVE_S = 100.0
LIMIT_BYTES = 4_600_000
INIT_S = 0.1

Change = Callable[[int, Attempt], Attempt]


@dataclass
class FakePlatform:
    """Calls take as long as they should, exactly; instances live for 100 s; time is counted, not waited for.

    Attributes:
        before: called with the number of each operation (create, forget, call, ...); may raise.
        change: an attempt as it comes back, by the number of the operation. refuses: functions by this.
        never_cold: an instance is always there already.
    """

    before: Callable[[int], None] = lambda number: None
    change: Change = lambda number, attempt: attempt
    refuses: Callable[[ProbeFunction], bool] = lambda function: False
    never_cold: bool = False
    limits: Account = field(default_factory=lambda: Account(concurrency=16))
    facts: BackendFacts = field(default_factory=lambda: BackendFacts("simulated", "here"))
    prices: BackendPrices = field(default_factory=lambda: BackendPrices(1e-5, 1e-7, 1e-7, 1e-6))
    operations: int = 0
    calls: int = 0
    functions: dict[str, ProbeFunction] = field(default_factory=dict)
    idle_since_s: dict[str, list[float]] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    clock_s: float = 1000.0
    closed: int = 0

    def account(self) -> Account:
        return self.limits

    def create(self, function: ProbeFunction) -> None:
        self._operation()
        if self.refuses(function):
            raise InputError(f"{function.name}: refused")
        assert function.name not in self.functions, "deployed twice"
        self.functions[function.name], self.idle_since_s[function.name] = function, []

    def delete(self, name: str) -> None:
        self._operation()
        del self.functions[name]

    def forget(self, name: str) -> None:
        self._operation()
        self.idle_since_s[name] = []

    def call(self, name: str, work: Work) -> list[Attempt]:
        number = self._operation()
        return [self.change(number, self._attempt(name, work))]

    def call_at_once(self, names: Sequence[str], work: Work) -> list[list[Attempt]]:
        number, began_s = self._operation(), self.clock_s
        instances = {name: list(self.idle_since_s[name]) for name in names}
        made, ends = [], []
        for name in names:  # each as if alone, on an instance of its own
            self.clock_s, self.idle_since_s[name] = began_s, instances[name][-1:]
            instances[name] = instances[name][:-1]
            made.append([self.change(number, self._attempt(name, work))])
            ends.append((name, self.clock_s))
        for name, end_s in ends:
            instances[name].append(end_s)
        self.idle_since_s |= instances
        self.clock_s = max(end_s for _, end_s in ends)
        return made

    def rest(self, seconds: float) -> None:
        self._operation()
        self.clock_s += seconds

    def now_s(self) -> float:
        return self.clock_s

    def close(self) -> None:
        self.functions.clear()
        self.closed += 1

    def _operation(self) -> int:
        self.operations += 1
        self.before(self.operations)
        return self.operations

    def _attempt(self, name: str, work: Work) -> Attempt:
        self.calls += 1
        self.works.append(work)
        function, sent_s = self.functions[name], self.clock_s
        alive = [each for each in self.idle_since_s[name] if sent_s - each < KEEP_ALIVE_S]
        cold = not alive and not self.never_cold
        size = max(work.size_bytes, work.answer_bytes) if isinstance(work, Send) else 0
        if size > LIMIT_BYTES:
            return Attempt(name, 1, sent_s, 0.01, "payload-too-large", error="too large")
        took = seconds_of(work, function.memory_mb)
        self.clock_s += sum(took) * getattr(work, "passes", 1) + 0.01 + INIT_S * cold
        self.idle_since_s[name] = [*alive[1:], self.clock_s]
        target_s = (0.001,) * len(took) if isinstance(work, Send) else ()
        answer = Answer(tuple(took), target_s=target_s, first=cold, cores=2)
        report = report_of(sum(took) * getattr(work, "passes", 1), INIT_S if cold else None, function.memory_mb)
        log = line_of(report)
        return Attempt(name, 1, sent_s, self.clock_s - sent_s, "ok", asdict(answer), parse_report(log), log)


def seconds_of(work: Work, memory_mb: int) -> list[float]:
    """What a function times, for each repeat."""
    vcpus = memory_mb / 1769
    match work:
        case Multiply():
            return [work.flop / (FLOPS * min(vcpus, work.threads))] * work.repeats
        case ExpertPass():
            return [4.0 * work.hidden * work.intermediate * work.tokens / (FLOPS * vcpus)] * work.repeats
        case GetObjects() | PutObjects():
            return [0.02 + work.size_bytes / 80e6] * work.repeats
        case Send():
            return [0.01 + (work.size_bytes + work.answer_bytes) / 40e6] * work.repeats
        case Wait():
            return [work.seconds]
        case _:
            return [0.001]


def report_of(duration_s: float, init_s: float | None, memory_mb: int) -> Report:
    """What Lambda reports: billed is rounded up to a millisecond, INIT included."""
    billed_ms = math.ceil(1000 * (duration_s + (init_s or 0.0)) - 1e-6)
    return Report("id", 1000 * duration_s, billed_ms, memory_mb, 60, None if init_s is None else 1000 * init_s)


def line_of(report: Report) -> str:
    """A REPORT line."""
    init = "" if report.init_ms is None else f"Init Duration: {report.init_ms:.2f} ms\t"
    return (
        f"REPORT RequestId: {report.request_id}\tDuration: {report.duration_ms:.2f} ms\t"
        f"Billed Duration: {report.billed_ms:.0f} ms\tMemory Size: {report.memory_mb} MB\t"
        f"Max Memory Used: {report.max_memory_mb} MB\t{init}"
    )

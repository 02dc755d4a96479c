"""What a probe's function is asked to do and to time: plain data, sent as the event of a call.

`lambda_probe/handlers/probe.py` does it inside a function; a simulated platform plays it. It answers an `Answer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True)
class Nothing:
    """Answer at once: what is left is the platform's own time."""

    do: ClassVar[str] = "nothing"


@dataclass(frozen=True)
class Multiply:
    """Products of fp32 matrices on so many threads: `flop` FLOPs, each of `repeats` timed.

    Short ones lie: a share of a CPU is given in periods of 20 ms or more, so one should take a second or so.
    """

    do: ClassVar[str] = "multiply"
    flop: float
    threads: int
    repeats: int = 1


@dataclass(frozen=True)
class ExpertPass:
    """An expert's two-matrix MLP, fp32, over some tokens, `passes` times back to back, all timed `repeats` times.

    What is told is the seconds of all passes divided by `passes`: one alone may be shorter than a CPU period.
    """

    do: ClassVar[str] = "expert"
    tokens: int
    hidden: int = 768
    intermediate: int = 3072
    passes: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class GetObjects:
    """Download an object of so many bytes from S3 over so many connections at once; each of `repeats` timed.

    Over several connections a range of the object each.
    """

    do: ClassVar[str] = "get"
    size_bytes: int
    connections: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class PutObjects:
    """Upload an object of so many bytes to S3 over so many connections (a part each); each of `repeats` timed."""

    do: ClassVar[str] = "put"
    size_bytes: int
    connections: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class Send:
    """Invoke another probe function with raw bytes, encoded as base64, and take an answer of raw bytes.

    What is timed is each of `repeats` calls; `target_s` in the answer is what the target said it took itself.
    """

    do: ClassVar[str] = "send"
    target: str
    size_bytes: int
    answer_bytes: int = 0
    repeats: int = 1


@dataclass(frozen=True)
class Wait:
    """Do nothing for so long: keeps an instance busy while others are asked for."""

    do: ClassVar[str] = "wait"
    seconds: float


Work: TypeAlias = Nothing | Multiply | ExpertPass | GetObjects | PutObjects | Send | Wait
KINDS: dict[str, type] = {
    kind.do: kind for kind in (Nothing, Multiply, ExpertPass, GetObjects, PutObjects, Send, Wait)
}


def event_of(work: Work) -> dict[str, Any]:
    """The event of a call that asks for some work."""
    return {"do": work.do, **vars(work)}


@dataclass(frozen=True)
class Answer:
    """What a probe's function says.

    Attributes:
        seconds: what it timed, s, one for each repeat (monotonic clock inside the function).
        cpu_s: CPU time of its process in each of them; empty where it does not say.
        target_s: of Send: what the target's handler took, for each repeat.
        first: whether this was the instance's first call: a cold start, whatever the REPORT line says.
        import_s: what the handler's own first-call work took (imports done inside the handler), 0 in later calls.
        cores: that the function sees. instance: a name that its instance gave itself.
        payload_bytes: of Send: bytes of the encoded payload.
        stopped: why it ended before all repeats were done, such as a 503 of S3; empty where all were.
    """

    seconds: tuple[float, ...] = ()
    cpu_s: tuple[float, ...] = ()
    target_s: tuple[float, ...] = ()
    first: bool = False
    import_s: float = 0.0
    cores: int = 0
    instance: str = ""
    payload_bytes: int = 0
    stopped: str = ""


def answer_of(data: Any) -> Answer:
    """An answer as a call returned it (a JSON object with the fields of Answer). Raises KeyError, TypeError."""
    found = {name: data[name] for name in Answer.__dataclass_fields__ if name in data}
    for name in ("seconds", "cpu_s", "target_s"):
        found[name] = tuple(float(x) for x in found.get(name, ()))
    return Answer(**found)

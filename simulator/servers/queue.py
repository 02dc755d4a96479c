"""Servers behind one queue, played: who arrives goes to a free machine, else waits, first come first served.

A machine that generates takes new sequences between two tokens (continuous batching): their prompts are read in
one pass of at most `PROMPT_TOKENS`, then all its sequences get a token a step. One that encodes takes what waits,
up to `at_once`, in one pass. Steps between two events are one event.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from simulator.servers.machine import Machine
from simulator.servers.promise import Times

PROMPT_TOKENS = 2048  # of one pass: vLLM's max_num_batched_tokens with chunked prefill


@dataclass(frozen=True)
class Served:
    """What was played.

    Attributes:
        times: of requests. busy_s: of all machines. end_s: when the last was done.
    """

    times: Times
    busy_s: float
    end_s: float


@dataclass
class _Running:
    """One machine: sequences with tokens left to generate, and the steps or pass that it is in."""

    left: dict[int, int] = field(default_factory=dict)
    context: float = 0.0
    coming: list[int] = field(default_factory=list)
    since_s: float = 0.0
    step_s: float = 0.0
    steps: int = 0
    idle: bool = True
    version: int = 0


class _Queue:
    """The state of a play; its public face is `play`."""

    def __init__(
        self,
        machine: Machine,
        count: int,
        arrived_s: np.ndarray,
        tokens: tuple[np.ndarray, np.ndarray],
        at_once: int,
    ) -> None:
        self.machine, self.at_once = machine, at_once
        self.arrived_s = arrived_s.tolist()
        self.tokens_in, self.tokens_out = tokens[0].tolist(), tokens[1].tolist()
        self.machines = [_Running() for _ in range(count)]
        self.idle = list(range(count))  # a heap: the lowest number first
        self.waiting: deque[int] = deque()
        self.events: list[tuple[float, int, int]] = []
        self.first_s, self.done_s = [math.nan] * len(arrived_s), [math.nan] * len(arrived_s)
        self.busy_s = 0.0

    def run(self) -> None:
        """Until every request is done."""
        for request, at in enumerate(self.arrived_s):
            while self.events and self.events[0][0] <= at:
                self._ended()
            self._arrive(request, at)
        while self.events:
            self._ended()

    def _arrive(self, request: int, at: float) -> None:
        if self.idle:
            number = heapq.heappop(self.idle)
            self.machines[number].coming.append(request)
            self._next(number, at)
            return
        number = min(range(len(self.machines)), key=self._load)
        one = self.machines[number]
        if self._load(number) >= self.at_once:
            self.waiting.append(request)
            return
        one.coming.append(request)
        if one.left and one.steps > 1:  # it is generating: it stops after the token that it is at
            done = min(one.steps, max(1, math.ceil((at - one.since_s) / one.step_s)))
            if done < one.steps:
                one.steps = done
                one.version += 1
                heapq.heappush(self.events, (one.since_s + done * one.step_s, number, one.version))

    def _load(self, number: int) -> float:
        one = self.machines[number]
        if not self.machine.work.spec.generates:
            return math.inf  # a pass takes nobody on
        return len(one.left) + len(one.coming)

    def _ended(self) -> None:
        at, number, version = heapq.heappop(self.events)
        one = self.machines[number]
        if version != one.version:
            return
        if one.steps:
            self._advance(one, at)
        self._next(number, at)

    def _advance(self, one: _Running, at: float) -> None:
        """All its sequences have got `steps` tokens."""
        self.busy_s += at - one.since_s
        ended = []
        one.context += one.steps * len(one.left)
        for request in one.left:
            one.left[request] -= one.steps
            if one.left[request] <= 0:
                ended.append(request)
        for request in ended:
            del one.left[request]
            one.context -= self.tokens_in[request] + self.tokens_out[request]
            self.done_s[request] = at
        one.steps = 0

    def _next(self, number: int, at: float) -> None:
        """Start the next pass or steps of a machine."""
        one = self.machines[number]
        while self.waiting and len(one.left) + len(one.coming) < self.at_once:
            one.coming.append(self.waiting.popleft())
        one.since_s, one.version = at, one.version + 1
        if one.coming:
            end = at + self._prompts(one, at)
        elif one.left:
            sequences = len(one.left)
            one.step_s = float(self.machine.token_s(sequences, one.context / sequences))
            one.steps = min(one.left.values())
            end = at + one.steps * one.step_s
        else:
            heapq.heappush(self.idle, number)
            return
        heapq.heappush(self.events, (end, number, one.version))

    def _prompts(self, one: _Running, at: float) -> float:
        """Read the prompts of some that came; returns the time that takes, s."""
        taken, tokens = 0, 0.0
        for request in one.coming:
            if taken and self.machine.work.spec.generates and tokens + self.tokens_in[request] > PROMPT_TOKENS:
                break
            taken, tokens = taken + 1, tokens + self.tokens_in[request]
        seconds = float(self.machine.pass_s(tokens / taken, taken))
        for request in one.coming[:taken]:
            self.first_s[request] = at + seconds
            left = self.tokens_out[request] - 1
            if self.machine.work.spec.generates and left > 0:
                one.left[request] = left
                one.context += self.tokens_in[request] + 1
            else:
                self.done_s[request] = at + seconds
        del one.coming[:taken]
        self.busy_s += seconds
        return seconds


def play(
    machine: Machine,
    count: int,
    arrived_s: np.ndarray,
    tokens_in: np.ndarray,
    tokens_out: np.ndarray,
    at_once: int,
) -> Served:
    """Play requests on so many machines.

    Args:
        arrived_s: sorted, shape (requests,). tokens_in, tokens_out: whole numbers, of the same shape.
        at_once: requests that a machine has at most.
    """
    queue = _Queue(machine, count, arrived_s, (tokens_in, tokens_out), at_once)
    queue.run()
    first, done = np.array(queue.first_s), np.array(queue.done_s)
    more = np.maximum(tokens_out - 1, 1)
    times = Times(first - arrived_s, (done - first) / more, done - arrived_s)
    return Served(times, queue.busy_s, float(done.max()))

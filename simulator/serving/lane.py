"""A lane of a stage of blocks in plain numbers: what it holds, computes, and how many sequences fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from simulator.plan import MB, DeploymentProblem, Violation
from simulator.stage_rules import stage_sizes
from simulator.staged_plan import BlocksStage, blocks_of
from simulator.stages import Handover


@dataclass(frozen=True)
class Lane:
    """A lane of a stage, for batches of one size.

    Attributes:
        stage: of which it is one. arrives: how its input comes.
        sequence_tokens: of each sequence. most_sequences: that it holds, by memory and hidden states' payloads.
        parameter_bytes: that it loads. empty_bytes: that it needs without tokens; token_bytes: of each.
        in_bytes, out_bytes: of a token that comes and goes.
        call_s, token_s: t_call and u(M).
        cache_bytes: keys and values of a token to decode: two hidden states a layer, as without grouped queries.
        read_s: of attention's weights, and the head's, once a decode step.
        experts_s: of each layer's experts' weights, all of them. missed: the share of tokens that do not use an
            expert, 1 - k/E. Both of shape (layers,).
    """

    stage: BlocksStage
    arrives: Handover
    sequence_tokens: float
    most_sequences: int
    parameter_bytes: float
    empty_bytes: float
    token_bytes: float
    in_bytes: float
    out_bytes: float
    call_s: float
    token_s: float
    cache_bytes: float
    read_s: float
    experts_s: np.ndarray
    missed: np.ndarray

    @classmethod
    def of(cls, problem: DeploymentProblem, stage: BlocksStage, arrives: Handover) -> Lane:
        """A stage's lane for the problem's batches. Raises InputError: the problem has no `blocks`."""
        blocks, first, end = blocks_of(problem), stage.first_layer, stage.last_layer + 1
        j, layers = blocks.memory_mb.index(stage.memory_mb), blocks.layers[first:end]
        sizes, token = (
            stage_sizes(problem, np.array([first]), np.array([end])),
            problem.served_tokens / blocks.sequences,
        )
        parameters, held = float(sizes.parameter_bytes[0]), float(sizes.token_bytes[0])
        empty = parameters + blocks.runtime_bytes
        in_bytes, out_bytes = float(sizes.in_bytes[0]), float(sizes.out_bytes[0])

        payload = problem.platform.payload_limit_bytes / problem.platform.payload_encoding_factor
        limits = [(stage.memory_mb * MB - empty, held)]
        limits += [(payload, in_bytes)] * (arrives == "payload" and first > 0)
        limits += [(payload, out_bytes)] * (stage.handover == "payload")
        fit = [math.floor(room / (token * each)) if each > 0 else blocks.sequences for room, each in limits]

        calls_s = np.array([x.seconds_per_call[j] if x.seconds_per_call else 0.0 for x in layers])
        of_experts = np.array([x.expert_share for x in layers])
        experts = np.array([len(x.experts) for x in problem.layers[first:end]])
        return cls(
            stage=stage,
            arrives=arrives,
            sequence_tokens=token,
            most_sequences=min(fit) if limits[0][0] >= 0 else 0,
            parameter_bytes=parameters,
            empty_bytes=empty,
            token_bytes=held,
            in_bytes=in_bytes,
            out_bytes=out_bytes,
            call_s=float(sizes.seconds_per_call[0, j]),
            token_s=float(sizes.seconds_per_token[0, j]),
            cache_bytes=sum(2 * x.token_in_bytes for x in problem.layers[first:end]),
            read_s=float((calls_s * (1 - of_experts)).sum()),
            experts_s=calls_s * of_experts,
            missed=1 - np.minimum(1.0, problem.top_k / experts),
        )

    @property
    def function(self) -> str:
        """Name of its stage's function."""
        return f"blocks-{self.stage.first_layer}-{self.stage.last_layer}"

    def compute_s(self, tokens: float) -> float:
        """Of so many tokens in one call: all weights are read from memory once, s."""
        return self.call_s + tokens * self.token_s

    def step_s(self, sequences: float) -> float:
        """Of one decode step that gives a token to each of so many sequences, s.

        The step reads attention's weights, the head's, and those of the experts that its tokens use: of E experts,
        of which each token uses k, B tokens reach E (1 - (1 - k/E)^B) on average, each expert being as likely.
        """
        used = 1 - self.missed**sequences
        return self.read_s + float(self.experts_s @ used) + sequences * self.token_s

    def needed_bytes(self, tokens: float, kept_tokens: float = 0.0) -> float:
        """Memory of so many tokens, and of the keys and values of `kept_tokens` to decode."""
        return self.empty_bytes + tokens * self.token_bytes + kept_tokens * self.cache_bytes

    def lanes_for(self, sequences: int) -> int:
        """The least number of lanes that hold so many sequences. Raises InputError: not one fits."""
        if self.most_sequences < 1:
            stage = self.stage
            raise InputError(
                f"stages of layers {stage.first_layer} to {stage.last_layer}: {stage.memory_mb} MB holds the "
                f"parameters ({self.empty_bytes / MB:.0f} MB with the runtime) but not one sequence of "
                f"{self.sequence_tokens:g} tokens"
            )
        return math.ceil(sequences / self.most_sequences)


def decode_violations(
    problem: DeploymentProblem, stage: BlocksStage, steps: int, sequences: int
) -> list[Violation]:
    """Whether keys and values of the sequences that a lane generates on are too large beside the rest."""
    lane = Lane.of(problem, stage, "storage")
    held = math.ceil(blocks_of(problem).sequences / stage.lanes) * lane.sequence_tokens
    kept = math.ceil(sequences / stage.lanes) * (lane.sequence_tokens + steps)
    too_much = lane.needed_bytes(held, kept) > stage.memory_mb * MB
    return [(stage.first_layer, None, "memory")] if too_much else []

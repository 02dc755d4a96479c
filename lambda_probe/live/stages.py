"""Stages of whole blocks of a live model: their parameters, and what the client asks of their lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lambda_probe.handlers.exchange import bytes_of, text_of
from lambda_probe.handlers.layers import Sizes
from moe.errors import InputError
from moe.pretrained.export import ExportedModel
from simulator.stage_rules import lane_sequences
from simulator.staged_plan import BlocksStage, StagedPlan


def blocks_function(stage: BlocksStage) -> str:
    """Name of a stage's function."""
    return f"blocks-{stage.first_layer}-{stage.last_layer}"


def stages_of(plan: StagedPlan) -> tuple[BlocksStage, ...]:
    """Stages that can be served live: blocks alone, and each lane reads whole objects of lanes before.

    Raises InputError.
    """
    stages = tuple(stage for stage in plan.stages if isinstance(stage, BlocksStage))
    if len(stages) < len(plan.stages):
        raise InputError("live stages: expected blocks alone, got a layer of expert functions between them")
    for before, after in pairwise(stages):
        if before.lanes % after.lanes:
            raise InputError(
                f"live stages: expected lanes that divide the {before.lanes} before, got {after.lanes}"
            )
    return stages


def arrays_of(model: ExportedModel, stage: BlocksStage) -> dict[str, np.ndarray]:
    """All parameters of a stage's layers, named `LAYER.array` and `LAYER.expert-I.array`."""
    found: dict[str, np.ndarray] = {}
    for e in range(stage.first_layer, stage.last_layer + 1):
        own = {name: x for name, x in model.non_moe[e].items() if not name.startswith("output_norm")}
        after = {name: x for name, x in model.non_moe[e + 1].items() if name.startswith("output_norm")}
        found |= {f"{e}.{name}": x for name, x in (own | after).items()}
        for i, arrays in enumerate(model.experts[e]):
            found |= {f"{e}.expert-{i}.{name}": x for name, x in arrays.items()}
    return found


@dataclass(frozen=True)
class Asked:
    """What the lanes of a stage are asked for: an event each, and the keys of what they upload, if they do."""

    events: tuple[dict[str, Any], ...]
    outputs: tuple[str, ...]


def asked(
    stage: BlocksStage,
    function: str,
    parameters: str,
    common: dict[str, Any],
    sizes: Sizes,
    tokens: np.ndarray,
    carried: Sequence[bytes],
    stored: Sequence[str],
) -> Asked:
    """The events of a stage's lanes.

    Args:
        function: its full name. parameters: their key. common: what every event of the batch has.
        tokens: IDs of the batch (S, n).
        carried, stored: hidden states that the lanes before answered, or the keys under which they lie.
    """
    lanes, events, outputs = lane_sequences(len(tokens), stage.lanes), [], []
    ends = np.cumsum(lanes)
    for lane, (end, sequences) in enumerate(zip(ends.tolist(), lanes.tolist(), strict=True)):
        output = f"{common['batch']}/blocks/{stage.last_layer}-{lane}" if stage.handover == "storage" else None
        event = {
            **common,
            "role": "blocks",
            "layer": stage.first_layer,
            "last_layer": stage.last_layer,
            "replica": lane,
            "tokens": sequences * tokens.shape[1],
            "function": function,
            "caller": "",
            "parameters": parameters,
            "sizes": asdict(sizes),
            "inputs": _part(stored, lane, stage.lanes),
            "output": output,
        }
        if stage.first_layer == 0:
            event["data"] = text_of(tokens[end - sequences : end].astype(np.int32).tobytes())
        elif carried:
            event["data"] = text_of(b"".join(_part(carried, lane, stage.lanes)))
        events.append(event)
        outputs += [output] if output else []
    return Asked(tuple(events), tuple(outputs))


def _part(of_lanes: Sequence[Any], lane: int, lanes: int) -> list[Any]:
    """What lane number `lane` of so many takes of the lanes before, which are a multiple."""
    each = len(of_lanes) // lanes
    return list(of_lanes[lane * each : (lane + 1) * each])


def answered(answers: Sequence[Any]) -> list[bytes]:
    """Hidden states of lanes that returned them."""
    return [bytes_of(answer["data"]) for answer in answers if answer]

"""The routing of an experiment: what is profiled, what is served, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.run.inputs import Inputs, check_layers
from experiments.run.schema import Workload
from moe.errors import InputError
from moe.routing.synthetic import synthetic_routing
from moe.trace import RoutingTrace, resampled


@dataclass(frozen=True)
class Routing:
    """Profiled and served part of a trace, as layers of the priced model.

    Attributes:
        profiled, served: the two parts of the trace.
        batches: real tokens of each expert, a (layers, experts) array for each served batch.
    """

    profiled: RoutingTrace
    served: RoutingTrace
    batches: list[np.ndarray]

    @property
    def real(self) -> np.ndarray:
        """Mean real tokens of each expert in a batch, shape (layers, experts)."""
        return np.mean(self.batches, axis=0)


def made_up(inputs: Inputs) -> RoutingTrace:
    """Routing by the workload's law of popularity."""
    work, spec = inputs.experiment.workload, inputs.spec
    assert work.popularity is not None
    return synthetic_routing(
        work.popularity,
        layers=spec.moe_layers,
        experts=spec.experts,
        top_k=spec.top_k,
        profiled_tokens=work.profiled_tokens,
        batch_tokens=work.batch_tokens,
        batches=work.batches,
        sequence_tokens=work.sequence_tokens,
        seed=inputs.experiment.seed,
    )


def split_routing(inputs: Inputs, trace: RoutingTrace) -> Routing:
    """The profiled and the served part of a trace, with the layers that stand for the priced model's.

    Raises InputError for a trace of another model, or of too few tokens.
    """
    work, layers = inputs.experiment.workload, inputs.experiment.workload.layers_of_recording
    check_layers(layers, inputs.spec, work.trace or work.record, trace.layers)
    if layers is not None:
        trace = trace.with_layers(list(layers))
    served = trace.slice(work.profiled_tokens, trace.tokens)
    wanted = work.batches * work.batch_tokens
    if served.tokens < wanted:
        served = _drawn(work, served, wanted, inputs.experiment.seed)
    served = served.slice(0, wanted)
    batches = [
        served.slice(start, start + work.batch_tokens).popularity()
        for start in range(0, wanted, work.batch_tokens)
    ]
    return Routing(trace.slice(0, work.profiled_tokens), served, batches)


def _drawn(work: Workload, held_out: RoutingTrace, wanted: int, seed: int) -> RoutingTrace:
    """At least `wanted` tokens in sequences that are drawn with replacement from those that were not profiled."""
    whole = held_out
    if held_out.tokens and held_out.position_id[0] != 0:  # the rest of a sequence that was profiled in part
        whole = held_out.take(held_out.sequence != held_out.sequence[0])
    sequences = len(np.unique(whole.sequence))
    if not work.bootstrap or sequences < 2:
        raise InputError(
            f"{work.trace or work.corpus}: {work.tokens:,} tokens asked, but it has "
            f"{work.profiled_tokens + held_out.tokens:,}, of which {sequences} sequences are not profiled; "
            "bootstrap needs at least 2 of them"
        )
    rng, drawn = np.random.default_rng(seed), [whole.slice(0, 0)]
    while sum(x.tokens for x in drawn) < wanted:
        drawn.append(resampled(whole, rng))
    label = f"drawn with replacement from {sequences} sequences that were not profiled"
    return replace(RoutingTrace.joined(drawn), origin=held_out.origin | {"batches": label})


def described(origin: dict[str, Any], layers: Sequence[int]) -> str:
    """One sentence: whose routing stands for the model's.

    Args:
        origin: of the trace.
        layers: for each of the model's layers, the recorded one that stands for it.
    """
    if "popularity" in origin:
        law = origin["popularity"]
        shape = "exponent" if law["law"] == "zipf" else "concentration"
        text = f"Routing made up: {law['law']}, {shape} {law[shape]:g}, drift {law['drift']:g}"
    elif "imported_from" in origin:
        text = f"Routing read from {origin['imported_from']}" + (f", {origin['part']}" if "part" in origin else "")
    else:
        model, corpus = origin.get("model", "an unnamed model"), origin.get("corpus", "unnamed text")
        text = f"Routing recorded on {model}, {corpus}"
    if "batches" in origin:
        text += f"; batches {origin['batches']}"
    if list(layers) == list(range(len(layers))):
        return text
    return f"{text}; its layers {', '.join(map(str, layers))} stand for layers 0 to {len(layers) - 1} of the model"

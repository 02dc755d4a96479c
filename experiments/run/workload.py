"""The routing that an experiment asks for: recorded, read or made up, and what of it is profiled and served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.run.inputs import Inputs
from experiments.run.routing import Routing, check_layers
from experiments.run.schema import Experiment, Workload
from moe.errors import InputError
from moe.pretrained.settings import RecordingSettings
from moe.routing.synthetic import synthetic_routing
from moe.trace import RoutingTrace
from optimizer.robust.samples import resampled


def recording_settings(experiment: Experiment) -> RecordingSettings:
    """What an experiment has recorded: its profiled and served tokens, its gates."""
    work = experiment.workload
    return RecordingSettings(
        model=work.record,
        corpus=work.corpus,
        gate=work.gate,
        gate_seed=experiment.seed,
        seed=experiment.seed,
        experts=work.experts,
        top_k=work.top_k,
        expert_copies=work.expert_copies,
        tokens=work.tokens,
        at_most=work.bootstrap,
        sequence_tokens=work.sequence_tokens,
    )


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
    """The profiled part of a trace, and as held out the tokens that are served, as layers of the priced model.

    Raises InputError for a trace of another model, or of too few tokens.
    """
    work, layers = inputs.experiment.workload, inputs.experiment.workload.layers_of_recording
    check_layers(layers, inputs.spec, work.trace or work.record, trace.layers)
    if layers is not None:
        trace = trace.with_layers(list(layers))
    routing, wanted = (
        Routing.of(trace, work.profiled_tokens, work.sequence_tokens),
        work.batches * work.batch_tokens,
    )
    served = routing.held_out
    if served.tokens < wanted:
        served = _drawn(work, served, wanted, inputs.experiment.seed)
    return replace(routing, held_out=served.slice(0, wanted))


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

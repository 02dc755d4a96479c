"""What an experiment names, loaded and checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.schema import Experiment, Prediction, Workload
from moe.corpora import load_corpus
from moe.errors import InputError
from moe.models import layers_of
from moe.spec import MoESpec, load_spec
from moe.trace import RoutingTrace
from optimizer.popularity import Predictor, options_of, predictor
from simulator.profile import PlatformProfile, load_profile


@dataclass(frozen=True)
class Inputs:
    """What an experiment names, loaded and checked before anything is computed.

    Attributes:
        trace: routing that is read from a file; None where it is recorded or made up.
    """

    experiment: Experiment
    spec: MoESpec
    profile: PlatformProfile
    trace: RoutingTrace | None = None


def load_inputs(experiment: Experiment) -> Inputs:
    """Model sizes and platform profile of an experiment, and whether its names fit together."""
    work = experiment.workload
    spec = load_spec(work.spec, experts=work.experts, top_k=work.top_k, sequence_tokens=work.sequence_tokens)
    make_predictor(experiment.prediction.predictor, experiment.prediction)
    trace = None
    if work.trace is not None:
        trace = read_trace(work, spec)
    elif work.popularity is not None:
        check_layers(work, spec, spec.moe_layers)
    else:
        check_layers(work, spec, layers_of(work.record))
        load_corpus(work.corpus)
    return Inputs(experiment, spec, load_profile(experiment.platform.profile), trace)


def read_trace(work: Workload, spec: MoESpec) -> RoutingTrace:
    """The routing in a file, which must be of a model as the spec says. Raises InputError."""
    from moe.foreign import import_trace

    assert work.trace is not None
    trace = import_trace(work.trace, spec.experts, work.trace_part)
    if trace.top_k != spec.top_k:
        raise InputError(
            f"{work.trace}: expected routing of top-{spec.top_k}, as {spec.name} has, got top-{trace.top_k}"
        )
    check_layers(work, spec, trace.layers)
    if not work.bootstrap and trace.tokens < work.tokens:
        raise InputError(
            f"{work.trace}: {work.tokens:,} tokens asked (profiled_tokens + batches x batch_tokens), "
            f"but it has {trace.tokens:,}"
        )
    return trace


def check_layers(work: Workload, spec: MoESpec, recorded: int | None) -> None:
    """Raise InputError unless the recorded layers (None: unknown) can stand for the priced model's."""
    source = work.trace or ("workload.popularity" if work.popularity else work.record)
    chosen, key = work.layers_of_recording, "workload.layers_of_recording"
    if chosen is not None and len(chosen) != spec.moe_layers:
        raise InputError(f"{key}: expected {spec.moe_layers} layers, as {spec.name} has, got {len(chosen)}")
    if recorded is None:
        return
    if chosen is not None and not all(0 <= layer < recorded for layer in chosen):
        raise InputError(f"{key}: {source} has layers 0..{recorded - 1}, got {list(chosen)}")
    if chosen is None and recorded != spec.moe_layers:
        raise InputError(
            f"{key}: {source} has {recorded} layers and {spec.name} {spec.moe_layers}; "
            "expected a list that names a recorded layer for each"
        )


def make_predictor(name: str, chosen: Prediction) -> Predictor:
    """A predictor by name, with those of the chosen options that it takes. Raises InputError."""
    options = {"variant": chosen.variant, "counting": chosen.counting}
    takes = options_of(name)
    return predictor(name, **{option: value for option, value in options.items() if option in takes})

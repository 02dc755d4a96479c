"""What an experiment names, loaded and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.run.platform import load_platform, serve_batch
from experiments.run.routing import LAYERS_KEY, check_layers
from experiments.run.schema import Experiment, Prediction
from moe.errors import InputError
from moe.pretrained.models import layers_of
from moe.routing.synthetic import check_law
from moe.spec import MoESpec, load_spec
from moe.text.corpora import load_corpus
from moe.trace import RoutingTrace
from optimizer.popularity import Predictor, options_of, predictor
from optimizer.solvers import check_options
from simulator.profiles.contenders import Contender
from simulator.profiles.schema import PlatformProfile


@dataclass(frozen=True)
class Inputs:
    """What an experiment names, loaded and checked before anything is computed.

    Attributes:
        server: contender whose machines serve the batches beside the functions; None: none is named.
        trace: routing that is read from a file; None where it is recorded or made up.
    """

    experiment: Experiment
    spec: MoESpec
    profile: PlatformProfile
    server: Contender | None = None
    trace: RoutingTrace | None = None


def load_inputs(experiment: Experiment) -> Inputs:
    """Model sizes and platform profile of an experiment, and whether its names fit together."""
    work = experiment.workload
    spec = load_spec(work.spec, experts=work.experts, top_k=work.top_k, sequence_tokens=work.sequence_tokens)
    make_predictor(experiment.prediction.predictor, experiment.prediction)
    for name in experiment.plans:
        check_options(name, ())
    platform = load_platform(experiment.platform.profile)
    if platform.server is not None:
        serve_batch(platform.server, spec, work, None)
    layers, trace = work.layers_of_recording, None
    if work.trace is not None:
        trace = read_trace(work.trace, work.trace_part, spec, layers, drop_padding=work.trace_drop_padding)
        if not work.bootstrap and trace.tokens < work.tokens:
            raise InputError(
                f"{work.trace}: {work.tokens:,} tokens asked (profiled_tokens + batches x batch_tokens), "
                f"but it has {trace.tokens:,}"
            )
    elif work.popularity is not None:
        check_layers(layers, spec, "workload.popularity", spec.moe_layers)
        check_law(work.popularity, spec.moe_layers, spec.experts, spec.top_k)
    else:
        load_corpus(work.corpus)
        check_layers(layers, spec, work.record, layers_of(work.record))
    return Inputs(experiment, spec, platform.profile, platform.server, trace)


def read_trace(
    path: str | Path,
    part: str | None,
    spec: MoESpec,
    layers: Sequence[int] | None,
    key: str = LAYERS_KEY,
    drop_padding: bool = False,
) -> RoutingTrace:
    """The routing in a file (all its layers), which must be of a model as the spec says. Raises InputError.

    Args:
        part: of a file with several corpora.
        layers: which of its layers stands for each of the model's; None: one to one.
        key: where `layers` was said.
        drop_padding: leave out the tokens that are padding.
    """
    from moe.routing.foreign import import_trace

    trace = import_trace(path, spec.experts, part, drop_padding)
    if trace.top_k != spec.top_k:
        raise InputError(
            f"{path}: expected routing of top-{spec.top_k}, as {spec.name} has, got top-{trace.top_k}"
        )
    check_layers(layers, spec, path, trace.layers, key)
    return trace


def popularity_of_trace(
    path: Path, part: str | None, spec: MoESpec, layers: Sequence[int] | None, batch_tokens: int | None
) -> np.ndarray:
    """Mean tokens of each expert in a batch, counted in a routing file, shape (layers, experts).

    Args:
        part, spec, layers: as of `read_trace`.
        batch_tokens: of a batch; None: all tokens of the file.

    Raises InputError for a trace of another model.
    """
    trace = read_trace(path, part, spec, layers, "--layers")
    if layers is not None:
        trace = trace.with_layers(list(layers))
    return trace.popularity() * ((batch_tokens or trace.tokens) / trace.tokens)


def make_predictor(name: str, chosen: Prediction) -> Predictor:
    """A predictor by name, with those of the chosen options that it takes. Raises InputError."""
    options = {"variant": chosen.variant, "counting": chosen.counting}
    takes = options_of(name)
    return predictor(name, **{option: value for option, value in options.items() if option in takes})

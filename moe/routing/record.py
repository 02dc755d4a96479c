"""Record routing traces: text through a real model, gates of choice; what was recorded once is read again."""

import functools
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.cache import cache_dir, content_key
from moe.errors import InputError, PlatformError
from moe.pretrained.models import LoadedModel, load_model, model_identity, pair_of
from moe.pretrained.settings import GateSettings, Progress, RecordingSettings
from moe.text.corpora import load_corpus, tokens_of
from moe.trace import RoutingTrace, load_trace, save_trace

if TYPE_CHECKING:
    from moe.pretrained.convert import Gate

__all__ = [
    "GateSettings",
    "Progress",
    "Recording",
    "RecordingSettings",
    "cached_record",
    "cached_records",
    "record",
    "uncached_passes",
]

_LOG = logging.getLogger(__name__)

RECORDER = "recorder/2"
"""Part of every cache key: raise it when the same settings give another trace."""

LEARNER = "trained-gate/1"
"""Part of the cache key of a trained gate: raise it when the same settings give another gate."""

GATE_STATISTICS_TOKENS = 2_048
LEARNT_TOKENS = 10_240
GATE_SEQUENCE_TOKENS = 128


@dataclass(frozen=True)
class Recording:
    """A routing trace, and where it came from.

    Attributes:
        trace: the routing trace.
        path: its file in the cache folder.
        was_cached: True when nothing was run.
        seconds: of the pass that recorded it (shared by all traces of the pass), model loading left out;
            0 when it was cached.
        tokens_per_s: speed of that pass, tokens/s; 0 when it was cached.
    """

    trace: RoutingTrace
    path: Path
    was_cached: bool
    seconds: float = 0.0
    tokens_per_s: float = 0.0


def cached_record(settings: RecordingSettings, fresh: bool = False, progress: Progress | None = None) -> Recording:
    """The routing trace of `settings`: read from the cache folder, else recorded and kept there.

    Args:
        fresh: record it even if it is in the cache.
        progress: called after each batch.

    Raises InputError for a model or corpus that is not there, and for a corpus that is too short.
    """
    return cached_records([settings], fresh, progress)[0]


def cached_records(
    settings: Sequence[RecordingSettings], fresh: bool = False, progress: Progress | None = None
) -> list[Recording]:
    """Routing traces of several settings, in their order; those that share model and text share one pass."""
    hashes = _hashes(settings)
    keys = {each: _key(each, hashes) for each in dict.fromkeys(settings)}
    paths = {each: _trace_path(each, content_key(key)) for each, key in keys.items()}
    found: dict[RecordingSettings, Recording] = {}
    for each, path in paths.items():
        trace = None if fresh else _read(path, keys[each])
        if trace is not None:
            found[each] = Recording(trace, path, was_cached=True)
    for group in _groups([each for each in paths if each not in found]):
        loaded = load_model(group[0].model)
        started = time.perf_counter()
        traces = record(loaded, group, progress)
        seconds = time.perf_counter() - started
        for each, trace in zip(group, traces, strict=True):
            trace = replace(trace, origin=trace.origin | keys[each])
            _keep(trace, paths[each])
            found[each] = Recording(trace, paths[each], False, seconds, trace.tokens / seconds)
    return [found[each] for each in settings]


def _keep(trace: RoutingTrace, path: Path) -> None:
    """Keep a trace in the cache folder; where that cannot be written to, it is recorded again next time."""
    try:
        save_trace(trace, path)
    except PlatformError as error:
        _warn(cache_dir(), getattr(error.__cause__, "strerror", None))


@functools.cache
def _warn(folder: Path, why: str | None) -> None:
    text = "smoe: cache folder %s: cannot be written: %s; continuing without it ($SMOE_CACHE names another)"
    _LOG.warning(text, folder, why)


def uncached_passes(settings: Sequence[RecordingSettings]) -> list[list[RecordingSettings]]:
    """Of several settings, those that are not in the cache folder: a list for each pass that would record them."""
    hashes = _hashes(settings)
    missing = [
        each for each in dict.fromkeys(settings) if not _trace_path(each, content_key(_key(each, hashes))).exists()
    ]
    return _groups(missing)


def record(
    loaded: LoadedModel, settings: Sequence[RecordingSettings], progress: Progress | None = None
) -> list[RoutingTrace]:
    """Record the routing traces of settings that share one pass: they differ at most in their gates.

    Where the experts are copies, one pass of the dense model serves every gate; of perturbed experts (one
    setting alone) the converted model itself is run, and of a model's own gates the model as it is.

    Raises InputError for a corpus that is too short, a sequence longer than the model can take, and a model that
    is not of the kind that the settings are for.
    """
    from moe.pretrained.passes import record_own

    first = settings[0]
    if {_pass_of(each) for each in settings} != {_pass_of(first)}:
        raise ValueError("settings of one pass differ at most in their gates")
    longest = loaded.max_sequence_tokens
    if longest is not None and first.sequence_tokens > longest:
        raise InputError(
            f"sequence_tokens: expected at most {longest} with model {first.model}, got {first.sequence_tokens}"
        )
    _check_kind(loaded, first)
    sequences = tokens_of(
        load_corpus(first.corpus), loaded.tokenizer, first.tokens, first.sequence_tokens, first.seed, first.at_most
    )
    if first.gate == "own":
        traces = [record_own(loaded.model, sequences, first.batch_sequences, progress)]
        _check_own(first, traces[0])
    else:
        traces = _record_converted(loaded, settings, sequences, progress)
    vocabulary = {"vocabulary": loaded.vocabulary}
    return [replace(trace.slice(0, first.tokens), origin=trace.origin | vocabulary) for trace in traces]


def _record_converted(
    loaded: LoadedModel, settings: Sequence[RecordingSettings], sequences: np.ndarray, progress: Progress | None
) -> list[RoutingTrace]:
    """Traces of a model whose MLPs become MoE layers."""
    from moe.pretrained.convert import convert
    from moe.pretrained.passes import record_converted, record_dense
    from moe.routing.pairs import record_pair

    first, gates = settings[0], gates_for(loaded, settings)
    if loaded.decoder is not None:
        followers = gates_for(loaded.decoder, settings, first_layer=len(gates[0]))
        both = list(zip(gates, followers, strict=True))
        traces = record_pair(loaded, loaded.decoder, sequences, both, first.batch_sequences, progress)
        gates = [encoder + decoder for encoder, decoder in both]
    elif first.expert_copies == "perturbed":
        converted = convert(loaded.model, gates[0], first.experts, "perturbed", first.noise, first.gate_seed)
        traces = [record_converted(converted, sequences, first.batch_sequences, progress)]
    else:
        traces = record_dense(loaded.model, sequences, gates, first.batch_sequences, progress)
    return [replace(trace, origin=_kept(own)) for trace, own in zip(traces, gates, strict=True)]


def _kept(gates: Sequence["Gate"]) -> dict[str, Any]:
    """Of trained gates, the share of each layer's output that their experts carry, and the cosine."""
    keeps = [gate.keeps for gate in gates if gate.keeps is not None]
    return {"kept_share": [x for x, _ in keeps], "kept_cosine": [x for _, x in keeps]} if keeps else {}


def _check_kind(loaded: LoadedModel, settings: RecordingSettings) -> None:
    """Raise InputError for what a pair of models cannot do."""
    if loaded.decoder is None:
        return
    for key, value, only in (
        ("expert_copies", settings.expert_copies, ("copies",)),
        ("gate", settings.gate, ("random", "standardised", "trained")),
    ):
        if value not in only:
            raise InputError(f"{key}: expected {' or '.join(only)} with a pair ({loaded.name}), got {value}")


def _check_own(settings: RecordingSettings, trace: RoutingTrace) -> None:
    """Raise InputError unless a model's own gates have the experts and the top-k that were asked for."""
    for key, asked, own in (
        ("experts", settings.experts, trace.num_experts),
        ("top_k", settings.top_k, trace.top_k),
    ):
        if asked != own:
            raise InputError(
                f"{key}: expected {own} as {_short_name(settings.model)}'s own gates have, got {asked}"
            )


def gates_for(
    loaded: LoadedModel, settings: Sequence[RecordingSettings], first_layer: int = 0
) -> list[list["Gate"]]:
    """For each setting, the gates of all its MoE layers, which are numbered from `first_layer` on.

    `standardised` gates have the statistics of the first 2,048 tokens of their text. `trained` ones learn from the
    first 10,240 (`trained_gates`). Texts are in sequences of 128, in the order of seed 0, whatever is served.
    """
    from moe.pretrained.convert import find_mlps, hidden_size, make_gates
    from moe.pretrained.passes import hidden_statistics
    from moe.pretrained.trained import trained_gates

    layers, size = len(find_mlps(loaded.model)), hidden_size(loaded.model)
    made: dict[RecordingSettings, list[Gate]] = {}
    for kind, corpus in dict.fromkeys((each.gate, each.gate_text) for each in settings):
        group = [each for each in settings if (each.gate, each.gate_text) == (kind, corpus)]
        if kind == "trained" and corpus is not None:
            text = gate_sample(loaded, corpus, LEARNT_TOKENS)
            made |= zip(group, trained_gates(loaded.model, group, text, first_layer), strict=True)
            continue
        sample = None if corpus is None else gate_sample(loaded, corpus, GATE_STATISTICS_TOKENS)
        statistics = None if sample is None else hidden_statistics(loaded.model, sample)
        made |= {each: make_gates(each.gate_settings, size, layers, statistics, first_layer) for each in group}
    return [made[each] for each in settings]


def gate_sample(loaded: LoadedModel, corpus: str, tokens: int) -> np.ndarray:
    """The first tokens of a text in sequences of 128, or as long as the model takes, (S, n)."""
    length = min(GATE_SEQUENCE_TOKENS, loaded.max_sequence_tokens or 10**9)
    return tokens_of(load_corpus(corpus), loaded.tokenizer, tokens, length, 0, at_most=True)


def _key(settings: RecordingSettings, hashes: dict[str, str]) -> dict[str, Any]:
    """All that a trace depends on; also the origin that it carries."""
    key: dict[str, Any] = settings.model_dump()
    key |= {
        "recorder": RECORDER,
        "model": _short_name(settings.model),
        "model_identity": hashes[f"model {settings.model}"],
        "corpus": _short_name(settings.corpus),
        "corpus_hash": hashes[f"corpus {settings.corpus}"],
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    if settings.expert_copies == "copies":
        del key["noise"]
    if not settings.at_most:
        del key["at_most"]
    del key["gate_corpus"]
    if settings.gate_text is not None:
        key["gate_corpus"] = _short_name(settings.gate_text)
        key["gate_corpus_hash"] = hashes[f"corpus {settings.gate_text}"]
    if settings.gate == "trained":
        key["learner"] = LEARNER
    return key


def _hashes(settings: Sequence[RecordingSettings]) -> dict[str, str]:
    """The content hash of each model and corpus of the settings, by name."""
    corpora = {name for each in settings for name in (each.corpus, each.gate_text) if name is not None}
    hashes = {f"corpus {name}": load_corpus(name).content_hash for name in sorted(corpora)}
    return hashes | {f"model {name}": model_identity(name) for name in sorted({e.model for e in settings})}


def _short_name(name: str) -> str:
    """A name as it is; of a path the last part, since a trace depends on the content, not on its place."""
    encoder, decoder = pair_of(name)
    if decoder is not None:
        return f"{_short_name(encoder)}+{_short_name(decoder)}"
    path = Path(name).expanduser()
    return path.name if os.path.exists(path) or path.is_absolute() else name


def _trace_path(settings: RecordingSettings, key: str) -> Path:
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", _short_name(settings.model))
    return cache_dir() / "traces" / f"{model}-{key[:24]}.parquet"


def _read(path: Path, key: dict[str, Any]) -> RoutingTrace | None:
    """The cached trace; None when there is none. One that is damaged, or of something else, is told."""
    if not path.exists():
        return None
    try:
        trace = load_trace(path)
    except InputError as error:
        _LOG.warning("smoe: %s; recorded anew", error)
        return None
    asked = json.loads(json.dumps(key))
    other = next((name for name, value in asked.items() if trace.origin.get(name) != value), None)
    if other is not None:
        _LOG.warning("smoe: %s: %s: of another recording than was asked for; recorded anew", path, other)
        return None
    return trace


def _pass_of(settings: RecordingSettings) -> tuple[object, ...]:
    """What settings have in common that one forward pass can serve."""
    same = (
        settings.model,
        settings.corpus,
        settings.tokens,
        settings.sequence_tokens,
        settings.seed,
        settings.batch_sequences,
        settings.at_most,
    )
    own = settings if settings.expert_copies == "perturbed" or settings.gate == "own" else None
    return (*same, own)


def _groups(settings: Sequence[RecordingSettings]) -> list[list[RecordingSettings]]:
    groups: dict[tuple[object, ...], list[RecordingSettings]] = {}
    for each in settings:
        groups.setdefault(_pass_of(each), []).append(each)
    return list(groups.values())

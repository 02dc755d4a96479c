"""Recording: the trace is what the model did, the same each time, and made only once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe.cache import is_sealed, seal
from moe.errors import InputError
from moe.files import validated
from moe.pretrained.convert import find_mlps, make_gates
from moe.pretrained.models import LoadedModel, load_model
from moe.pretrained.passes import record_dense
from moe.pretrained.settings import GateSettings
from moe.routing.record import RecordingSettings, cached_record, cached_records, gates_for, record, uncached_passes
from tests.moe import tiny_models


@pytest.fixture(scope="module")
def minilm() -> LoadedModel:
    return load_model("minilm")


@pytest.fixture
def tiny_folder(tmp_path: Path, own_cache: Path) -> dict[str, str]:
    """A user's own model and text, as settings."""
    words = np.random.default_rng(5).choice(tiny_models.WORDS, 4000)
    text = tmp_path / "mine.txt"
    text.write_text("\n\n".join(" ".join(words[i : i + 400]) for i in range(0, 4000, 400)))
    return {"model": str(tiny_models.save_tiny("bert", tmp_path / "my-bert")), "corpus": str(text)}


def settings_of(folder: dict[str, str], **changes: Any) -> RecordingSettings:
    return RecordingSettings(
        **({"tokens": 320, "sequence_tokens": 16, "gate_corpus": folder["corpus"]} | folder | changes)
    )


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "distilbert"])
def test_attention_id_is_the_token_attended_to_most(kind: str) -> None:
    """Against a direct computation of page 1's definition, token by token."""
    model = tiny_models.tiny_model(kind)
    sequences = np.random.default_rng(5).integers(4, tiny_models.VOCABULARY, (3, 9)).astype(np.int32)
    gates = make_gates(GateSettings(), 32, len(find_mlps(model)))
    (trace,) = record_dense(model, sequences, [gates], batch_sequences=2)
    with torch.inference_mode():
        ids = torch.from_numpy(sequences.astype(np.int64))
        attentions = model(input_ids=ids, output_attentions=True).attentions
    for layer, weights in enumerate(attentions):
        for row in range(3):
            for position in range(9):
                summed = [
                    sum(float(weights[row, h, position, j]) for h in range(weights.shape[1])) for j in range(9)
                ]
                most = sequences[row, int(np.argmax(summed))]
                assert trace.attention_id[row * 9 + position, layer] == most


def test_a_trace_has_the_tokens_that_were_served_in_their_order() -> None:
    model = tiny_models.tiny_model("gpt2")
    sequences = np.random.default_rng(5).integers(4, tiny_models.VOCABULARY, (5, 7)).astype(np.int32)
    gates = make_gates(GateSettings(experts=4, top_k=2), 32, 3)
    (trace,) = record_dense(model, sequences, [gates], batch_sequences=2)
    assert np.array_equal(trace.token_id.reshape(5, 7), sequences)
    assert np.array_equal(trace.sequence.reshape(5, 7), np.repeat(np.arange(5), 7).reshape(5, 7))
    assert np.array_equal(trace.position_id.reshape(5, 7), np.tile(np.arange(7), (5, 1)))
    assert np.allclose(trace.weights.sum(axis=2), 1, atol=1e-6)
    assert (np.diff(trace.weights, axis=2) <= 0).all(), "best first"
    assert (trace.experts[:, :, 0] != trace.experts[:, :, 1]).all()
    assert (trace.popularity().sum(axis=1) == 35 * 2).all()


def test_the_batch_size_does_not_change_what_is_routed() -> None:
    model = tiny_models.tiny_model("llama")
    sequences = np.random.default_rng(5).integers(4, tiny_models.VOCABULARY, (7, 11)).astype(np.int32)
    gates = make_gates(GateSettings(experts=8, top_k=2), 32, 3)
    one, all_ = (record_dense(model, sequences, [gates], batch_sequences=n)[0] for n in (1, 7))
    assert np.array_equal(one.experts, all_.experts)
    assert np.array_equal(one.attention_id, all_.attention_id)


def test_hooks_are_gone_after_a_pass_even_one_that_failed() -> None:
    """Else the next recording of the same model counts twice."""
    model = tiny_models.tiny_model("bert")
    gates = make_gates(GateSettings(), 32, 3)
    with pytest.raises(IndexError):
        record_dense(model, np.full((1, 8), 10_000, dtype=np.int32), [gates])
    record_dense(model, np.full((1, 8), 10, dtype=np.int32), [gates])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_random_gates_are_more_skewed_than_standardised_ones(minilm: LoadedModel) -> None:
    """The two gates are there to set the skew; on a real model they must."""
    settings = [
        RecordingSettings(tokens=768, gate=gate, gate_seed=seed, experts=8)
        for gate in ("random", "standardised")
        for seed in range(3)
    ]
    popularity = np.stack([trace.popularity() for trace in record(minilm, settings)])
    hottest = (popularity.max(axis=2) / popularity.mean(axis=2)).mean(axis=1)
    assert hottest[:3].mean() > 1.3 * hottest[3:].mean()


def test_encoder_sequences_start_and_end_as_the_encoder_expects(minilm: LoadedModel) -> None:
    (trace,) = record(minilm, [RecordingSettings(tokens=256, sequence_tokens=64, corpus="news")])
    ids = trace.token_id.reshape(4, 64)
    assert (ids[:, 0] == minilm.tokenizer.cls_token_id).all()
    assert (ids[:, -1] == minilm.tokenizer.sep_token_id).all()
    assert trace.layers == 6
    assert trace.origin["vocabulary"] == 30522


def test_every_corpus_meets_the_same_standardised_gate(minilm: LoadedModel) -> None:
    """Else drift between texts is drift of the gate."""
    settings = [RecordingSettings(gate="standardised", corpus=name) for name in ("wikipedia", "news")]
    wikipedia, news = gates_for(minilm, settings)
    assert torch.equal(wikipedia[2].weight, news[2].weight)


def test_a_sequence_longer_than_the_model_takes_is_told(minilm: LoadedModel) -> None:
    with pytest.raises(InputError, match="sequence_tokens: expected at most 512 with model minilm, got 600"):
        record(minilm, [RecordingSettings(sequence_tokens=600)])


def test_a_users_own_model_and_text_are_recorded(tiny_folder: dict[str, str]) -> None:
    recording = cached_record(settings_of(tiny_folder, tokens=330, experts=4, top_k=2))
    assert recording.trace.tokens == 330, "not a whole number of sequences"
    assert (recording.trace.popularity().sum(axis=1) == 660).all()
    assert recording.tokens_per_s > 0
    origin = recording.trace.origin
    assert (origin["model"], origin["corpus"]) == ("my-bert", "mine.txt"), "no machine's paths in a trace"
    assert str(Path(tiny_folder["model"]).parent) not in str(origin)


def test_a_recording_is_read_again_without_torch(tiny_folder: dict[str, str]) -> None:
    """Else a second run of an experiment takes as long as the first."""
    first = cached_record(settings_of(tiny_folder))
    assert not first.was_cached
    code = (
        "import sys\n"
        "from moe.routing.record import RecordingSettings, cached_record\n"
        f"recording = cached_record(RecordingSettings(**{settings_of(tiny_folder).model_dump()!r}))\n"
        "print(recording.was_cached, recording.trace.tokens, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "320", "False"]


@pytest.mark.parametrize("gate", ["random", "standardised"])
@pytest.mark.parametrize("copies", ["copies", "perturbed"])
def test_the_same_seed_gives_the_same_bytes(tiny_folder: dict[str, str], gate: str, copies: str) -> None:
    settings = settings_of(tiny_folder, gate=gate, expert_copies=copies)
    first = cached_record(settings).path.read_bytes()
    again = cached_record(settings, fresh=True)
    assert not again.was_cached
    assert again.path.read_bytes() == first


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 336},
        {"sequence_tokens": 20},
        {"experts": 8},
        {"top_k": 2},
        {"gate": "standardised"},
        {"gate_seed": 1},
        {"seed": 1},
        {"expert_copies": "perturbed"},
        {"batch_sequences": 3},
    ],
)
def test_other_settings_are_never_served_from_the_cache(
    tiny_folder: dict[str, str], change: dict[str, Any]
) -> None:
    cached_record(settings_of(tiny_folder))
    assert not cached_record(settings_of(tiny_folder, **change)).was_cached


def test_an_edited_text_or_model_is_recorded_anew(tiny_folder: dict[str, str]) -> None:
    settings = settings_of(tiny_folder)
    cached_record(settings)
    text = Path(tiny_folder["corpus"])
    text.write_text(text.read_text().replace("w7 ", "w8 "))
    assert not cached_record(settings).was_cached
    assert cached_record(settings).was_cached
    weights = Path(tiny_folder["model"]) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:] = np.float32(0.123).tobytes()
    weights.write_bytes(content)
    assert not cached_record(settings).was_cached


def test_an_edited_gate_corpus_makes_another_standardised_gate(
    tiny_folder: dict[str, str], tmp_path: Path
) -> None:
    """Else a standardised trace depends on a text that its key does not know."""
    other = tmp_path / "gate.txt"
    other.write_text("w1 w2 w3 " * 1000)
    settings = settings_of(tiny_folder, gate="standardised", gate_corpus=str(other))
    first = cached_record(settings).trace
    other.write_text("w4 w5 w6 " * 1000)
    recording = cached_record(settings)
    assert not recording.was_cached
    assert not np.array_equal(recording.trace.experts, first.experts)
    assert cached_record(settings.model_copy(update={"gate": "random"})).trace.tokens == 320
    other.unlink()
    assert cached_record(settings.model_copy(update={"gate": "random"})).was_cached, "a random gate needs none"


@pytest.mark.parametrize("fault", ["short", "bit", "another recording"])
def test_a_damaged_cache_is_recorded_again(
    tiny_folder: dict[str, str], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is said: a trace of something else would be priced without a word."""
    path = cached_record(settings_of(tiny_folder)).path
    content = path.read_bytes()
    other = cached_record(settings_of(tiny_folder, gate_seed=9)).path.read_bytes()
    damaged = {"short": content[:500], "bit": flipped(content, len(content) // 2), "another recording": other}
    path.write_bytes(damaged[fault])
    recording = cached_record(settings_of(tiny_folder))
    assert not recording.was_cached
    assert recording.path.read_bytes() == content
    (told,) = caplog.messages
    assert told.startswith(f"smoe: {path}: ")
    assert told.endswith("recorded anew")
    assert cached_record(settings_of(tiny_folder)).was_cached


def flipped(content: bytes, place: int) -> bytes:
    """With one bit of a byte the other way."""
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_a_folder_that_was_made_is_known_again_unless_it_changed(tmp_path: Path) -> None:
    """Else a converted model of which the disk lost a bit is served as the model."""
    (tmp_path / "weights").write_bytes(b"0123")
    assert not is_sealed(tmp_path, "model A")
    seal(tmp_path, "model A")
    assert is_sealed(tmp_path, "model A")
    assert not is_sealed(tmp_path, "model B")
    (tmp_path / "weights").write_bytes(b"0133")
    assert not is_sealed(tmp_path, "model A")


def test_a_cache_that_cannot_be_written_costs_one_warning(
    tiny_folder: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour of recording is not lost because its copy cannot be kept."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path / "file" / "cache"))
    settings = [settings_of(tiny_folder, gate_seed=seed) for seed in (1, 2)]
    assert [each.was_cached for each in cached_records(settings)] == [False, False]
    folder = tmp_path / "file" / "cache"
    said = f"smoe: cache folder {folder}: cannot be written: Not a directory; continuing without it"
    assert [record.getMessage() for record in caplog.records] == [f"{said} ($SMOE_CACHE names another)"]


def test_many_gates_in_one_pass_are_recorded_as_if_alone(tiny_folder: dict[str, str]) -> None:
    """Else a trace depends on what else was asked for."""
    settings = [
        settings_of(tiny_folder, gate=gate, experts=experts, top_k=top_k)
        for gate in ("random", "standardised")
        for experts, top_k in ((4, 1), (4, 2), (8, 1))
    ]
    together = [recording.path.read_bytes() for recording in cached_records(settings)]
    alone = [cached_record(each, fresh=True).path.read_bytes() for each in settings]
    assert together == alone
    mixed = [settings_of(tiny_folder, gate_seed=9), *settings]
    assert [r.was_cached for r in cached_records(mixed)] == [False, True, True, True, True, True, True]


def test_what_is_left_to_record_is_told_pass_by_pass(tiny_folder: dict[str, str]) -> None:
    """Else a sweep runs the model once for each gate, or again for what is there."""
    one, other = (settings_of(tiny_folder, gate_seed=seed) for seed in (1, 2))
    longer = settings_of(tiny_folder, tokens=one.tokens + 32)
    assert uncached_passes([one, other, one, longer]) == [[one, other], [longer]]
    cached_record(one)
    assert uncached_passes([one, other, longer]) == [[other], [longer]]
    cached_records([other, longer])
    assert uncached_passes([one, other, longer]) == []


def test_perturbed_experts_are_routed_by_the_model_that_has_them(tiny_folder: dict[str, str]) -> None:
    """The first gate sees what it saw before; the gates after a perturbed layer do not."""
    copies = cached_record(settings_of(tiny_folder, experts=8)).trace
    other = cached_record(settings_of(tiny_folder, experts=8, expert_copies="perturbed", noise=0.5)).trace
    assert np.array_equal(copies.experts[:, 0], other.experts[:, 0])
    assert not np.array_equal(copies.experts[:, 1:], other.experts[:, 1:])


def test_progress_ends_at_all_tokens(tiny_folder: dict[str, str]) -> None:
    seen: list[tuple[int, int, float]] = []
    cached_record(settings_of(tiny_folder, batch_sequences=3), progress=lambda *numbers: seen.append(numbers))
    assert seen[-1][:2] == (320, 320)
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert all(speed > 0 for _, _, speed in seen)


def test_a_corpus_that_is_too_short_is_told(tiny_folder: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"mine\.txt: 99999 tokens asked, but it has 45"):
        cached_record(settings_of(tiny_folder, tokens=99_999))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top_k": 5}, "top_k: expected at most experts = 4, got 5"),
        ({"gate": "learnt"}, "gate: .*'random'"),
        ({"tokens": 0}, "tokens: .*greater than or equal to 1, got 0"),
        ({"expertz": 4}, "expertz: unknown key; did you mean 'experts'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        validated(RecordingSettings, changes, "recording")

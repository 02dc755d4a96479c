"""An encoder and a decoder on the same text, as one model: the encoder's MoE layers, then the decoder's.

This is what stands for Bert2Bert where only its halves are at hand. The tokens are the encoder's. Each is followed
in the decoder by the decoder's own token in which it begins, so both halves compute on tokens that they know. The
decoder reads the text itself (teacher forcing), and nothing of the encoder's output: it has no cross-attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.pretrained.models import LoadedModel
from moe.pretrained.settings import Progress
from moe.trace import RoutingTrace

if TYPE_CHECKING:
    from moe.pretrained.convert import Gate

END = -1


@dataclass(frozen=True)
class Followed:
    """The decoder's tokens of the encoder's sequences.

    Attributes:
        sequences: the decoder's token IDs, shape (S, m); -1 after a sequence's end.
        encoder_ids: the encoder's token ID in which each of them begins, shape (S, m).
        place: for each of the encoder's tokens, where the decoder's is, shape (S, n).
    """

    sequences: np.ndarray
    encoder_ids: np.ndarray
    place: np.ndarray


def record_pair(
    encoder: LoadedModel,
    decoder: LoadedModel,
    sequences: np.ndarray,
    gates: Sequence[tuple[list["Gate"], list["Gate"]]],
    batch_sequences: int = 16,
    progress: Progress | None = None,
) -> list[RoutingTrace]:
    """Routing traces of several gates in one pass of each half.

    Args:
        sequences: the encoder's token IDs, shape (S, n).
        gates: for each trace, the encoder's and the decoder's.

    Raises InputError for an encoder whose tokens are not words and parts of words.
    """
    from moe.pretrained.passes import record_dense

    followed = follow(encoder, decoder, sequences)
    first = record_dense(encoder.model, sequences, [own for own, _ in gates], batch_sequences, progress)
    second = record_dense(
        decoder.model,
        followed.sequences,
        [own for _, own in gates],
        batch_sequences,
        progress,
        attended_as=followed.encoder_ids,
    )
    rows = np.arange(len(sequences))[:, None] * followed.sequences.shape[1] + followed.place
    return [_stacked(a, b.take(rows.ravel())) for a, b in zip(first, second, strict=True)]


def follow(encoder: LoadedModel, decoder: LoadedModel, sequences: np.ndarray) -> Followed:
    """Spell the encoder's sequences (S, n) as text, and find the decoder's tokens of it. Raises InputError."""
    kind = type(encoder.tokenizer.backend_tokenizer.model).__name__
    if kind not in ("WordPiece", "WordLevel"):
        raise InputError(
            f"model: {encoder.name}: expected an encoder of BERT's kind of tokens (WordPiece), got {kind}"
        )
    parts = [_follow_one(encoder.tokenizer, decoder.tokenizer, ids) for ids in sequences]
    longest = max(len(ids) for ids, _, _ in parts)
    if decoder.max_sequence_tokens is not None and longest > decoder.max_sequence_tokens:
        raise InputError(
            f"sequence_tokens: a sequence of {sequences.shape[1]} tokens is one of {longest} of {decoder.name}, "
            f"which takes at most {decoder.max_sequence_tokens}"
        )
    shape = (len(parts), longest)
    ids, encoder_ids = np.full(shape, END, np.int32), np.full(shape, END, np.int32)
    for row, (own, theirs, _) in enumerate(parts):
        ids[row, : len(own)], encoder_ids[row, : len(own)] = own, theirs
    return Followed(ids, encoder_ids, np.stack([place for _, _, place in parts]))


def _follow_one(encoder: Any, decoder: Any, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decoder's token IDs, the encoder's where each begins, and the decoder's place for each of `ids`."""
    text, starts = _spelled(encoder, ids)
    encoded = decoder(text, return_offsets_mapping=True, verbose=False)
    begins = np.array([begin for begin, _ in encoded["offset_mapping"]])
    # A token of the decoder may begin with the space before a word: it is that word's.
    begins += np.array([text[at : at + 1] == " " for at in begins.tolist()])
    begins = np.maximum.accumulate(begins)  # a special token has no place of its own
    own = np.asarray(encoded["input_ids"], np.int32)
    last = len(starts) - 1
    theirs = ids[np.clip(np.searchsorted(starts, begins, side="right") - 1, 0, last)]
    place = np.clip(np.searchsorted(begins, starts, side="right") - 1, 0, len(own) - 1)
    return own, theirs, place


def _spelled(tokenizer: Any, ids: np.ndarray) -> tuple[str, np.ndarray]:
    """The text of WordPiece tokens, and where each begins in it, shape (n,); special tokens take no room."""
    special = set(tokenizer.all_special_ids)
    text, starts = "", []
    for token_id, token in zip(ids.tolist(), tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True):
        is_part = token.startswith("##") and len(token) > 2
        piece = "" if token_id in special else token[2:] if is_part else token
        text += " " if text and piece and not is_part else ""
        starts.append(len(text))
        text += piece
    return text, np.array(starts)


def _stacked(encoder: RoutingTrace, decoder: RoutingTrace) -> RoutingTrace:
    """One trace of the layers of both, with the encoder's tokens."""
    return replace(
        encoder,
        attention_id=np.concatenate([encoder.attention_id, decoder.attention_id], axis=1),
        experts=np.concatenate([encoder.experts, decoder.experts], axis=1),
        weights=np.concatenate([encoder.weights, decoder.weights], axis=1),
    )

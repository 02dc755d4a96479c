"""Text by name: corpora that installed packages carry, a hub data set, or the user's own file."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from moe.cache import files_hash
from moe.errors import InputError, nearest, shortened

GATE_TEXT = "gate-text"
"""The corpus that trained gates learn from, apart from all that `corpus_names` has."""
HUB_DOCUMENTS = 20_000
_ALSO_IN_WIKIPEDIA = "Academy Award for Best Production Design\n"
_OWN_DOCUMENT_CHARACTERS = 2_000
_DOCUMENTS_AT_ONCE = 8


@dataclass(frozen=True)
class Corpus:
    """A text to serve.

    Attributes:
        name: what it is asked for by.
        role: what kind of text it is (encyclopedia, news, ...).
        licence: one line on who may use it for what.
        source: its file; None for a hub data set.
    """

    name: str
    role: str
    licence: str
    source: Path | None
    _read: Callable[[], Iterator[str]] = field(repr=False)

    def documents(self) -> Iterator[str]:
        """The texts in it, in a fixed order. Raises InputError when they cannot be read."""
        return self._read()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the source file (of a hub data set: of its documents), 64 hex digits."""
        if self.source is not None:
            return files_hash([self.source])
        digest = hashlib.sha256()
        for text in self.documents():
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()


def corpus_names() -> list[str]:
    """Names of the corpora that packages carry."""
    return sorted(_PACKAGED)


def load_corpus(name: str) -> Corpus:
    """A corpus by name, by the path of a text file (UTF-8), or `hub:NAME[:CONFIG[:SPLIT[:COLUMN]]]`.

    Of a hub data set the first 20,000 documents are used; SPLIT is `train` and COLUMN `text` unless said; a column
    inside another is `translation.en`.
    Nothing is read yet. Raises InputError for an unknown name (with the nearest), a missing file or package.
    """
    if name in _PACKAGED:
        return _PACKAGED[name]()
    if name == GATE_TEXT:
        return _gate_text()
    if name.startswith("hub:"):
        return _hub_corpus(name)
    path = Path(name).expanduser()
    if os.path.isfile(path):
        return Corpus(name, "own text", "the user's", path, lambda: _own_documents(path))
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"corpus: {name}: no such file")
    raise InputError(f"corpus: no corpus {shortened(name)}{nearest(name, corpus_names())}")


def load_text(name: str) -> str:
    """The whole text of a corpus, documents separated by a blank line. Raises InputError."""
    return "\n\n".join(load_corpus(name).documents())


def tokens_of(
    corpus: Corpus, tokenizer: Any, tokens: int, sequence_tokens: int, seed: int, at_most: bool = False
) -> np.ndarray:
    """Sequences of a corpus that hold at least `tokens` token IDs: shape (ceil(tokens / n), n) int32.

    Documents are shuffled by `seed` and cut, end to end, into sequences of n = `sequence_tokens`, each with
    the special tokens that the tokenizer puts around a text ([CLS] ... [SEP] for BERT, none for GPT-2).

    Args:
        tokenizer: a transformers tokenizer.
        tokens: count, special tokens included.
        sequence_tokens: tokens per sequence, special tokens included.
        seed: of the order of the documents.
        at_most: of a corpus that is too short, all whole sequences.

    Raises InputError when the corpus is too short, with the number of tokens that it has.
    """
    before, after = _special_tokens(tokenizer)
    body = sequence_tokens - len(before) - len(after)
    if body < 1:
        raise InputError(
            f"sequence_tokens: expected at least {len(before) + len(after) + 1}, got {sequence_tokens}"
        )
    sequences = -(-tokens // sequence_tokens)
    documents = list(corpus.documents())
    order = np.random.default_rng(seed).permutation(len(documents))
    parts: list[np.ndarray] = []
    have = 0
    for start in range(0, len(order), _DOCUMENTS_AT_ONCE):
        batch = [documents[i] for i in order[start : start + _DOCUMENTS_AT_ONCE]]
        encoded = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        parts += [np.asarray(ids, dtype=np.int32) for ids in encoded]
        have = sum(map(len, parts))
        if have >= sequences * body:
            break
    whole = have // body
    if at_most and whole:
        sequences = min(sequences, whole)
    if whole < sequences:
        raise InputError(
            f"corpus: {corpus.name}: {tokens} tokens asked, but it has {whole * sequence_tokens} "
            f"(in whole sequences of {sequence_tokens}); "
            "expected fewer, or bootstrap: true in an experiment"
        )
    text = np.concatenate(parts)[: sequences * body].reshape(sequences, body)
    edges = [np.tile(np.asarray(ids, dtype=np.int32), (sequences, 1)) for ids in (before, after)]
    return np.concatenate([edges[0], text, edges[1]], axis=1)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The token IDs that the tokenizer puts before and after a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a")["input_ids"])
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    return full[:start], full[start + len(bare) :]


def _package_file(corpus: str, package: str, *inside: str) -> Path:
    """A file in an installed package, found without importing it. Raises InputError."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *inside)
        if path.is_file():
            return path
    raise InputError(f"corpus: '{corpus}' needs the package {package}: pip install {package}")


def _wikipedia() -> Corpus:
    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    path = _package_file("wikipedia", "gensim", "test", "test_data", name)

    def read() -> Iterator[str]:
        from moe.text.wikitext import wikipedia_pages

        return wikipedia_pages(path)

    return Corpus("wikipedia", "encyclopedia", "CC BY-SA, Wikipedia's authors; read in place", path, read)


def _gate_text() -> Corpus:
    """Articles that no other corpus has; one of the file's is in `wikipedia`."""
    path = _package_file(GATE_TEXT, "gensim", "test", "test_data", "enwiki-table-markup.xml.bz2")

    def read() -> Iterator[str]:
        from moe.text.wikitext import wikipedia_pages

        return (page for page in wikipedia_pages(path) if not page.startswith(_ALSO_IN_WIKIPEDIA))

    return Corpus(GATE_TEXT, "encyclopedia", "CC BY-SA, Wikipedia's authors; read in place", path, read)


def _news() -> Corpus:
    path = _package_file("news", "gensim", "test", "test_data", "lee_background.cor")

    def read() -> Iterator[str]:
        return (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())

    return Corpus("news", "news", "none stated (the Lee corpus in gensim's test data); read in place", path, read)


def _python_docs() -> Corpus:
    path = _package_file("python-docs", "pydoc_data", "topics.py")

    def read() -> Iterator[str]:
        from pydoc_data.topics import topics

        return (topics[name] for name in sorted(topics))

    return Corpus("python-docs", "technical prose", "PSF-2.0; read in place", path, read)


def _fiction() -> Corpus:
    from moe.text.fiction import novel_file, novel_passages

    path = novel_file()
    licence = "public domain (Project Gutenberg 8868); fetched once, with a package's source"
    return Corpus("fiction", "fiction", licence, path, lambda: novel_passages(path))


_PACKAGED: dict[str, Callable[[], Corpus]] = {
    "wikipedia": _wikipedia,
    "fiction": _fiction,
    "news": _news,
    "python-docs": _python_docs,
}


def _own_documents(path: Path) -> Iterator[str]:
    """Runs of paragraphs (separated by blank lines) of at least 2,000 characters."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"corpus: {path}: not a readable UTF-8 text: {error}") from None
    run: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        run.append(paragraph.strip())
        if sum(map(len, run)) >= _OWN_DOCUMENT_CHARACTERS:
            yield "\n\n".join(run)
            run = []
    if any(run):
        yield "\n\n".join(run)


def _hub_corpus(name: str) -> Corpus:
    parts = name.split(":")[1:]
    if not parts[0] or len(parts) > 4:
        raise InputError(f"corpus: expected 'hub:NAME[:CONFIG[:SPLIT[:COLUMN]]]', got {shortened(name)}")
    data_set, config, split, column = parts + [""] * (4 - len(parts))
    split, column = split or "train", column or "text"
    if find_spec("datasets") is None:
        raise InputError(f"corpus: '{name}' needs the package datasets: pip install datasets")

    def read() -> Iterator[str]:
        try:
            os.environ["HF_DATASETS_TRUST_REMOTE_CODE"] = "0"  # versions before 4 ran a data set's own script
            datasets = import_module("datasets")
            rows = datasets.load_dataset(data_set, config or None, split=split, streaming=True)
            for row in islice(rows, HUB_DOCUMENTS):
                text: Any = row
                for key in column.split("."):
                    text = text.get(key) if isinstance(text, dict) else None
                if not isinstance(text, str):
                    raise InputError(f"corpus: {name}: no text column {shortened(column)}{nearest(column, row)}")
                yield text
        except InputError:
            raise
        except Exception as error:  # the hub's client raises many kinds: network, name, licence gate
            raise InputError(
                f"corpus: {name}: cannot be fetched from the hub: {' '.join(str(error).split())[:200]}"
            ) from None

    return Corpus(name, "hub data set", "see the data set's page", None, read)

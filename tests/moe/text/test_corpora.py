"""Text by name: what a user asks for is what is served, and what is not there is said in one line."""

import functools
import http.server
import io
import re
import subprocess
import sys
import tarfile
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe.errors import InputError
from moe.text import corpora
from moe.text.corpora import corpus_names, load_corpus, load_text, tokens_of
from moe.text.fiction import PACKAGE, VERSION
from moe.text.wikitext import prose


class WordTokenizer:
    """Words of a text by length, with special tokens 101 and 102 around it, as BERT has them."""

    def __init__(self, special: bool = True):
        self.special = special

    def __call__(self, text: Any, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, Any]:
        if isinstance(text, list):
            return {"input_ids": [self(each, add_special_tokens)["input_ids"] for each in text]}
        ids = [len(word) for word in text.split()]
        return {"input_ids": [101, *ids, 102] if add_special_tokens and self.special else ids}


def own_corpus(folder: Path, words: int = 1000) -> corpora.Corpus:
    path = folder / "mine.txt"
    path.write_text("\n\n".join("x" * (1 + i % 50) for i in range(words)))
    return load_corpus(str(path))


@pytest.mark.parametrize(
    ("name", "documents", "characters"),
    [("wikipedia", 100, 2_500_000), ("news", 300, 340_000), ("python-docs", 70, 400_000)],
)
def test_packaged_corpora_are_there_and_large_enough(name: str, documents: int, characters: int) -> None:
    texts = list(load_corpus(name).documents())
    assert len(texts) >= documents
    assert sum(map(len, texts)) >= characters
    assert all(text.strip() for text in texts)
    assert re.fullmatch("[0-9a-f]{64}", load_corpus(name).content_hash)


def test_wikipedia_is_prose_not_markup() -> None:
    """Else predictors learn braces and pipes instead of language."""
    text = load_text("wikipedia")
    assert "Anarchism is a political philosophy that advocates self-governed societies" in text
    markup = re.findall(r"\{\{|\}\}|\[\[|\]\]|\{\||<ref|'''|&nbsp;|#REDIRECT|\[http", text)
    assert len(markup) <= 20, markup[:10]


@pytest.mark.parametrize(
    ("wikitext", "readable"),
    [
        ("'''Bold''' and ''italic''", "Bold and italic"),
        ("[[Paris|the city]], [[France]]", "the city, France"),
        ("a{{cite|{{nested|x}}}}b", "ab"),
        ("a<ref name=x/>b<ref>note {{c}}</ref>c", "abc"),
        ("{| class=x\n|-\n| cell {| inner |}\n|}after", "after"),
        ("[[File:a.jpg|thumb|A [[link]] here]]text", "text"),
        ("see [http://x.org the site]", "see the site"),
        ("== History ==\n* one\n* two", "History\none\ntwo"),
        ("body\n== References ==\n* book", "body"),
        ("a<!-- hidden -->b", "ab"),
        ("x &lt; y", "x < y"),
    ],
)
def test_markup_becomes_what_a_reader_sees(wikitext: str, readable: str) -> None:
    assert prose(wikitext) == readable


def fetched_novel() -> list[str]:
    try:
        return list(load_corpus("fiction").documents())
    except InputError as error:
        pytest.skip(f"no package registry here: {error}")


def test_the_novel_is_a_novel_without_what_its_publisher_put_around_it() -> None:
    texts = fetched_novel()
    assert len(texts) >= 100, "few documents cannot be shuffled"
    assert sum(len(text.split()) for text in texts) > 45_000
    assert "Porcupine" in " ".join(texts)
    assert "gutenberg" not in " ".join(texts).lower().replace("project gutenberg's botchan", "")


def test_a_novel_that_cannot_be_fetched_or_is_another_gives_one_line(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, b"", b"WARNING: x\nERROR: no\tsuch host")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match=r"'fiction' needs the source of sentencepiece .*no\tsuch host"):
        load_corpus("fiction")
    monkeypatch.setattr("moe.text.fiction._text_of", lambda _: b"another text")
    monkeypatch.setattr("moe.text.fiction._fetched", lambda: b"")
    with pytest.raises(InputError, match="has another text than it had"):
        load_corpus("fiction")
    assert not list(own_cache.glob("texts/*"))


def make_index(folder: Path) -> None:
    """An index of packages whose source, when it is built, writes a file `ran`."""
    setup = f"open({str(folder / 'ran')!r}, 'w').close()\nimport setuptools\nsetuptools.setup(name={PACKAGE!r})\n"
    name = f"{PACKAGE}-{VERSION}"
    (folder / PACKAGE).mkdir()
    with tarfile.open(folder / PACKAGE / f"{name}.tar.gz", "w:gz") as archive:
        for file, text in (("setup.py", setup), ("test/botchan.txt", "another novel")):
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    (folder / PACKAGE / "index.html").write_text(f'<!DOCTYPE html><a href="{name}.tar.gz">{name}.tar.gz</a>')


def test_nothing_of_an_archive_is_run_and_another_one_is_refused(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever stands between a user and the index runs code by way of a novel."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    make_index(tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(InputError, match=r"'fiction': the source of sentencepiece .* has another sha256"):
            load_corpus("fiction")
        server.shutdown()
    assert not (tmp_path / "ran").exists(), "a build script was run"
    assert not list(own_cache.glob("texts/*"))


def test_a_damaged_novel_is_fetched_anew(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "texts").mkdir(parents=True)
    (own_cache / "texts" / "botchan.txt").write_text("another novel")
    asked: list[str] = []

    def fetched() -> bytes:
        asked.append("archive")
        raise InputError("corpus: 'fiction': no index here")

    monkeypatch.setattr("moe.text.fiction._fetched", fetched)
    with pytest.raises(InputError, match="no index here"):
        load_corpus("fiction")
    assert asked == ["archive"]


def test_an_unknown_corpus_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match="no corpus 'wikipdia'; did you mean 'wikipedia'"):
        load_corpus("wikipdia")
    with pytest.raises(InputError, match=", ".join(corpus_names())):
        load_corpus("zzz")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"corpus: nowhere/book\.txt: no such file"):
        load_corpus("nowhere/book.txt")


def test_a_file_that_is_no_text_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a readable UTF-8 text"):
        load_text(str(tmp_path / "x.txt"))


def test_own_text_is_all_there_and_its_hash_follows_its_content(tmp_path: Path) -> None:
    """Else an edited text is served from the cache of the old one."""
    corpus = own_corpus(tmp_path)
    assert sum(len(text.split()) for text in corpus.documents()) == 1000
    assert len(list(corpus.documents())) > 5, "one document cannot be shuffled"
    before = corpus.content_hash
    assert own_corpus(tmp_path, words=999).content_hash != before


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="'wikipedia' needs the package gensim: pip install gensim"):
        load_corpus("wikipedia")
    with pytest.raises(InputError, match="needs the package datasets: pip install datasets"):
        load_corpus("hub:wikitext")


def fake_hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[Any]:
    """A `datasets` package that gives `answer`, and notes what it was asked for."""
    asked: list[Any] = []

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        asked.append((*arguments, options["split"]))
        if isinstance(answer, Exception):
            raise answer
        return answer

    package = types.ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setattr(corpora, "find_spec", lambda name: True)
    return asked


def test_a_hub_data_set_is_read_by_config_split_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_hub(monkeypatch, [{"body": "one"}, {"body": "two"}])
    corpus = load_corpus("hub:org/set:small:test:body")
    assert list(corpus.documents()) == ["one", "two"]
    assert len(corpus.content_hash) == 64
    assert asked[0] == ("org/set", "small", "test")
    list(load_corpus("hub:org/set:::body").documents())
    assert asked[-1] == ("org/set", None, "train")


def test_one_side_of_a_hub_translation_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """WMT's texts are pairs in one column."""
    fake_hub(monkeypatch, [{"translation": {"de": "eins", "en": "one"}}])
    assert list(load_corpus("hub:wmt/wmt19:de-en:train:translation.en").documents()) == ["one"]
    with pytest.raises(InputError, match=r"no text column 'translation\.fr'"):
        load_text("hub:wmt/wmt19:de-en:train:translation.fr")


def test_a_hub_data_set_that_fails_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, ConnectionError("no\nnetwork"))
    with pytest.raises(InputError, match="hub:a: cannot be fetched from the hub: no network"):
        load_text("hub:a")
    fake_hub(monkeypatch, [{"content": "one"}])
    with pytest.raises(InputError, match="no text column 'contents'; did you mean 'content'"):
        load_text("hub:a:::contents")
    with pytest.raises(InputError, match="expected 'hub:NAME"):
        load_corpus("hub:")


def test_sequences_have_the_special_tokens_that_the_model_was_trained_with(tmp_path: Path) -> None:
    """Else an encoder is recorded on input that it never saw."""
    sequences = tokens_of(own_corpus(tmp_path), WordTokenizer(), tokens=100, sequence_tokens=10, seed=0)
    assert sequences.shape == (10, 10)
    assert sequences.dtype == np.int32
    assert (sequences[:, 0] == 101).all()
    assert (sequences[:, -1] == 102).all()
    assert ((sequences[:, 1:-1] >= 1) & (sequences[:, 1:-1] <= 50)).all()
    plain = tokens_of(own_corpus(tmp_path), WordTokenizer(special=False), 100, 10, seed=0)
    assert plain.max() <= 50


def test_tokens_are_rounded_up_to_whole_sequences(tmp_path: Path) -> None:
    assert tokens_of(own_corpus(tmp_path), WordTokenizer(), 101, 10, seed=0).shape == (11, 10)


def test_the_seed_alone_decides_the_order_of_the_documents(tmp_path: Path) -> None:
    def draw(seed: int) -> np.ndarray:
        return tokens_of(own_corpus(tmp_path), WordTokenizer(), 900, 10, seed)

    assert np.array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


def test_more_tokens_do_not_change_the_first_ones(tmp_path: Path) -> None:
    """Else a longer recording is not a continuation of the shorter one."""
    corpus = own_corpus(tmp_path)
    few, many = (tokens_of(corpus, WordTokenizer(), tokens, 10, seed=1) for tokens in (50, 800))
    assert np.array_equal(few, many[:5])


def test_a_corpus_that_is_too_short_says_how_many_tokens_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"5000 tokens asked, but it has 1250 \(in whole sequences of 10\)"):
        tokens_of(own_corpus(tmp_path), WordTokenizer(), 5000, 10, seed=0)


def test_at_most_takes_all_there_is(tmp_path: Path) -> None:
    corpus = own_corpus(tmp_path)
    assert tokens_of(corpus, WordTokenizer(), 5000, 10, 0, at_most=True).shape == (125, 10)
    enough = tokens_of(corpus, WordTokenizer(), 500, 10, 0, at_most=True)
    assert np.array_equal(enough, tokens_of(corpus, WordTokenizer(), 500, 10, 0))


def test_a_sequence_must_hold_more_than_its_special_tokens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sequence_tokens: expected at least 3, got 2"):
        tokens_of(own_corpus(tmp_path), WordTokenizer(), 10, 2, seed=0)


def test_names_and_settings_come_without_heavy_packages() -> None:
    """Else every command waits seconds for torch before it says that a name is wrong."""
    code = (
        "import sys, moe.trace, moe.spec, moe.text.corpora, moe.cache, moe.routing.record\n"
        "import moe.pretrained.settings, moe.pretrained.models\n"
        "next(moe.text.corpora.load_corpus('wikipedia').documents())\n"
        "print(sorted({'torch', 'transformers', 'gensim', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

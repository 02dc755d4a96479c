"""A cache folder that the tests of the embedded decoder share: converting it takes twenty seconds."""

import fcntl
import functools
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest


@pytest.fixture
def decoder_cache(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The shared cache folder, in use by one test of all workers at a time; the first converts the decoder."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "decoder-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("SMOE_CACHE", str(folder))
    monkeypatch.setattr("gguf.GGUFReader", functools.cache(gguf.GGUFReader))  # read once, not three times
    with (folder / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder

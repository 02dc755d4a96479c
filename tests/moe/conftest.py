"""A cache folder that the tests of the embedded decoder share: converting it takes twenty seconds."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty, until the first test converts the decoder."""
    return tmp_path_factory.mktemp("decoder-cache")


@pytest.fixture
def decoder_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache folder, in use."""
    monkeypatch.setenv("SMOE_CACHE", str(shared_cache))
    return shared_cache

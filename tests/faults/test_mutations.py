"""A damaged file is read, or refused in one line: else somebody gets a traceback, a hang or a wrong number."""

from __future__ import annotations

import random
import resource
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from moe.errors import InputError, PlatformError
from tests.experiments.conftest import Run
from tests.faults.asked import SEED, WHOLE
from tests.faults.good_files import KINDS
from tests.faults.mutations import damage

pytestmark = pytest.mark.faults
INPUTS = 500 if WHOLE else 66
BOUND_S = 60
MEMORY_BYTES = 6 * 2**30


@pytest.mark.parametrize("name", KINDS)
def test_a_good_file_is_read(name: str, smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test below shows nothing."""
    monkeypatch.chdir(tmp_path)
    assert _outcome(name, KINDS[name].write(tmp_path), smoe) == (0, "")


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = []
    for number in range(-(-INPUTS // len(KINDS))):
        rng = random.Random(zlib.crc32(f"{SEED} {name} {number}".encode()))
        path = KINDS[name].write(tmp_path)
        how = damage(path, KINDS[name].hows, rng)
        try:
            with _bounded():
                code, said = _outcome(name, path, smoe)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            code, said = 3, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        lines = said.strip().splitlines()
        if code not in (0, 2) or (code and len(lines) != 1) or (how in KINDS[name].refuses and not code):
            kept = path.with_name(f"wrong-{number}{path.suffix}")
            kept.write_bytes(path.read_bytes())
            wrong.append(f"{how}: exit {code}: {said.strip()[:300]!r}: {kept}")
    assert not wrong, f"{name}, seed {SEED}: {len(wrong)} inputs:\n" + "\n".join(wrong)


def _outcome(name: str, path: Path, smoe: Run) -> tuple[int, str]:
    """Exit code and what is said, of a command or as a command makes it of a reader's errors."""
    read = KINDS[name].read
    try:
        command = read(path)
    except (InputError, PlatformError) as error:
        return 2, " ".join(str(error).split())
    if command is None:
        return 0, ""
    code, _, err = smoe(*command)
    return code, err if code else ""


@contextmanager
def _bounded() -> Iterator[None]:
    """Ends what hangs, and what would take all memory of the machine."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {BOUND_S} s")

    before, (soft, hard) = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    try:
        signal.alarm(BOUND_S)
        if pages is not None:
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, hard))
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

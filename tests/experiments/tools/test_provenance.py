"""Where a study's numbers come from: without it, nobody can make the table again, or say what it was of."""

import json
from pathlib import Path

from tests.experiments.conftest import Run


def test_a_study_notes_its_commit_its_seed_and_what_was_asked(smoe: Run, tmp_path: Path) -> None:
    code, _, _ = smoe("presets", "olmoe-1b-7b", "--batch-tokens", "256", "--seed", "3", "--out", str(tmp_path))
    assert code == 0
    noted = json.loads((tmp_path / "provenance.json").read_text())
    assert noted["seed"] == 3
    assert noted["models"] == ["olmoe-1b-7b"]
    assert noted["batch_tokens"] == 256
    assert {"git_commit", "versions", "python", "command", "started"} <= set(noted)

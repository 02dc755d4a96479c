"""Where public measurements come from: if these fail, an outsider cannot get what a profile rests on."""

import fnmatch
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from calibration.published.files import FILES
from calibration.published.sources import FETCHED, SOURCES, Source, fetch, on_demand_prices, warm_containers
from moe.errors import InputError, PlatformError

PAGE = Path(__file__).parents[3] / "docs" / "calibration.md"
COUNTS = "Memory,FunctionTime,Invocations,DeltaT,WarmContainers\n128,1,4,900,0\n" + "128,1,4,900,1\n" * 4
PRICES = """var InitialOnDemandPricesAWS = map[string]map[ec2types.InstanceType]float64{
\t"eu-west-1": {
\t\t"c5.large": 0.096000,
\t},
\t// us-east-1
\t"us-east-1": {
\t\t// c5 family
\t\t"c5.12xlarge": 2.040000, "c5.large": 0.085000,
\t},
}
"""


@pytest.fixture
def host(tmp_path: Path) -> tuple[str, str]:
    """A place with one repository, and its commit."""
    there = tmp_path / "host" / "someone" / "counts"
    (there / "data").mkdir(parents=True)
    (there / "data" / "counts.csv").write_text(COUNTS)
    (there / "more.md").write_text("not wanted")

    def git(*arguments: str) -> str:
        named = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
        done = subprocess.run(["git", *named, *arguments], cwd=there, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "counts")
    commit = git("rev-parse", "HEAD")
    (there / "data" / "counts.csv").write_text("spoilt later")
    git("commit", "--quiet", "-am", "later")
    return f"file://{tmp_path / 'host'}/", commit[:8]


def test_sources_are_fetched_at_their_commit_and_tables_made_of_them(
    host: tuple[str, str], tmp_path: Path
) -> None:
    url, commit = host
    source = Source("made.csv", "someone/counts", commit, ("data/counts.csv",), "none", warm_containers)
    raw = Source("by_hand.csv", "someone/counts", commit, ("data",), "none")
    folder = tmp_path / "public"
    told = list(fetch(folder, [source, raw], url))
    assert [line.partition(":")[2].split()[0] for line in told] == ["made", "to"]
    assert (folder / FETCHED / "someone/counts/data/counts.csv").read_text() == COUNTS
    assert not (folder / FETCHED / "someone/counts/more.md").exists()
    row = pd.read_csv(folder / "made.csv").iloc[0]
    assert (row.initial_invocations, row.idle_delta_s, row.n_repetitions) == (4, 900, 5)
    assert (row.warm_containers_mean, row.warm_containers_min, row.warm_fraction_mean) == (0.8, 0, 0.2)
    shutil.rmtree(tmp_path / "host")
    assert "is there" in next(fetch(folder, [source], url))  # nothing is asked for again


def test_prices_are_those_of_the_region(tmp_path: Path) -> None:
    (tmp_path / "prices.go").write_text(PRICES)
    table = on_demand_prices([tmp_path / "prices.go"])
    assert table.to_numpy().tolist() == [["c5.12xlarge", 2.04], ["c5.large", 0.085]]


def test_without_git_or_network_or_file_there_is_one_line(
    host: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, commit = host
    gone = Source("made.csv", "someone/counts", commit, ("moved.csv",), "none", warm_containers)
    with pytest.raises(InputError, match=rf"commit {commit} has none of moved.csv"):
        list(fetch(tmp_path / "a", [gone], url))
    with pytest.raises(PlatformError, match=r"--fetch: git clone .*nobody/counts") as told:
        list(fetch(tmp_path / "b", [Source("x.csv", "nobody/counts", commit, ("a",), "none")], url))
    assert "\n" not in str(told.value)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PlatformError, match="git is not installed"):
        list(fetch(tmp_path / "c", [gone], url))


def test_every_file_has_a_source_and_the_page_says_it() -> None:
    page = PAGE.read_text()
    for file in FILES:
        assert any(fnmatch.fnmatch(source.file, file.pattern) for source in SOURCES), file.pattern
    for source in SOURCES:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{source.file}`")), "")
        for said in (source.repository, source.commit, source.licence, *source.paths):
            assert said in row, f"{source.file}: {said}"

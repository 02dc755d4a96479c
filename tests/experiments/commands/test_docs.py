"""What the documents tell people to type: if these fail, a reader types a command that is not there."""

import importlib
import re
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from experiments.cli import GROUPS, cli
from experiments.commands.options import WithSettings
from tests.experiments.conftest import Run

ROOT = Path(__file__).parents[3]
PACKAGES = "moe|simulator|optimizer|lambda_probe|calibration|experiments"
MOST_PAGES = 14  # one for each thing that people do; results stand in results/
PAGES = ["README.md", "results/README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


def commands(page: str) -> list[list[str]]:
    """The words after each `./smoe` of a page, up to its end or that of the line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [found.split() for found in re.findall(r"\./smoe ([^`\n#]+)", text)]


def test_there_is_one_page_for_each_task() -> None:
    """A reader finds the page; a new one replaces another."""
    assert 10 <= sum(page.startswith("docs/") for page in PAGES) <= MOST_PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_of_a_page_is_there(page: str) -> None:
    for words in commands(page):
        command: click.Command = cli
        while isinstance(command, click.Group) and words:
            names = re.split(r"\\?\|", words.pop(0).strip(",."))
            assert set(names) <= set(command.commands), f"{page}: ./smoe {' '.join(names)}"
            command = command.commands[names[0]]
        known = {name for parameter in command.params for name in parameter.opts}
        for word in words:
            option = re.match(r"\[?(--[a-z-]+)", word)
            if option and command.name != "test":
                assert option[1] in known | {"--help"}, f"{page}: ./smoe {command.name} ... {word}"
        if isinstance(command, WithSettings):
            settings = [after.partition("=")[0] for before, after in pairwise(words) if before == "--set"]
            assert set(settings) <= set(command.settings()), f"{page}: ./smoe {command.name} ... --set {settings}"


def test_every_bench_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    bench = cli.commands["bench"]
    assert isinstance(bench, click.Group)
    assert {"all", "simulator", "optimizer", "solvers", "validation", "calibration", "miqcp"} == set(
        bench.commands
    )
    for name, command in bench.commands.items():
        assert "Example: ./smoe bench " + name in (command.help or ""), name


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_file_of_the_code_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for paragraph in text.split("\n\n"):
        files = {found.rstrip(".") for found in re.findall(rf"\b(?:{PACKAGES}|tests|docs)/[\w./-]+", paragraph)}
        folders = [ROOT / (file if (ROOT / file).is_dir() else Path(file).parent) for file in files]
        assert [file for file in files if "NAME" not in file and not (ROOT / file).exists()] == []
        for name in re.findall(r"`(\w+\.py)`", paragraph):  # in a folder that is named beside it
            assert (ROOT / name).exists() or any(any(folder.rglob(name)) for folder in folders), name
    for name in re.findall(rf"`((?:{PACKAGES})(?:\.\w+)+)", text):
        assert name.endswith(".parquet") or is_there(name), name


def anchors(page: Path) -> set[str]:
    """What a link to a page may end with: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists(), f"{page}: {target}"
            assert not anchor or anchor in anchors(file), f"{page}: {target}"


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of this project, or stands in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            if not hasattr(found, part) and part not in getattr(found, "__dataclass_fields__", ()):
                return False
            found = getattr(found, part, None)
        return True
    return False


def test_help_shows_every_command_once_with_its_whole_first_sentence() -> None:
    """A newcomer finds a command by what it is for, and does not read half a sentence."""
    said = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    assert "..." not in said.replace("[ARGS]...", "")
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(set(grouped)) == len(grouped)
    assert set(cli.commands) <= {*grouped}, "put the new command into a group of experiments/cli.py"
    for name, command in cli.commands.items():
        assert f"{name} {' '.join(command.get_short_help_str(150).split())}" in said


@pytest.mark.parametrize(
    "name", [name for name, command in cli.commands.items() if isinstance(command, WithSettings)]
)
def test_a_command_with_settings_has_few_options_and_says_what_each_setting_is(name: str, smoe: Run) -> None:
    command = cli.commands[name]
    assert isinstance(command, WithSettings)
    assert sum(isinstance(each, click.Option) for each in command.params) <= 12
    code, said, _ = smoe(name, "--help")
    assert code == 0
    for key, field in command.settings().items():
        assert re.search(rf"^  {key} ", said, re.MULTILINE), key
        assert field.description, key
    code, out, err = smoe(name, *REQUIRED.get(name, ()), "--set", "sede=1")
    assert (code, out) == (2, "")
    assert "--set sede: unknown key" in err


REQUIRED = {
    "plan": ("p.json",),
    "simulate": ("p.json", "plan.json"),
    "tune": ("p.json", "--profiled", "a.parquet", "--serve", "b.parquet"),
    "record": ("--out", "a.parquet"),
}

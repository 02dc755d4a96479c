"""What the documents tell people to type: if these fail, a reader types a command that is not there."""

import re
from pathlib import Path

import click
import pytest

from experiments.cli import cli

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "results/README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


def commands(page: str) -> list[list[str]]:
    """The words after each `./smoe` of a page, up to its end or that of the line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [found.split() for found in re.findall(r"\./smoe ([^`\n#]+)", text)]


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


def test_every_bench_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    bench = cli.commands["bench"]
    assert isinstance(bench, click.Group)
    assert {"simulator", "optimizer", "validation", "miqcp"} == set(bench.commands)
    for name, command in bench.commands.items():
        assert "Example: ./smoe bench " + name in (command.help or ""), name

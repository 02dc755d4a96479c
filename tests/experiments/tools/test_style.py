"""Pictures show what their data are called: a name is no formula, and no reason to lose a finished run."""

from pathlib import Path

import pytest

from experiments.tools import style


@pytest.mark.parametrize("name", ["$_{$", "$x$", "a$b", "cost in $ and $", "\\frac$1$"])
def test_dollars_in_a_name_are_dollars(tmp_path: Path, name: str) -> None:
    """Drawn in every place that a name may stand in, beside logarithmic numbers that are matplotlib's own."""
    figure = style.new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [1, 1000], label=name)
    axes.set_yscale("log")
    axes.set_title(name)
    axes.set_xlabel(name)
    axes.set_xticks([0, 1], [name, name])
    axes.annotate(name, (0, 1))
    axes.legend(title=name)
    figure.suptitle(name)
    figure.legend()
    style.save(figure, tmp_path / "a")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count(f"<!-- {name} -->") == 9
    assert r"<!-- $\mathdefault{10^{2}}$ -->" in drawn

"""The table that ends a run. If this breaks, its last columns fall off a terminal of 80 columns."""

import pytest

from experiments.run.methods import Row
from experiments.run.report import answer_table, legend
from experiments.tools.console import out


@pytest.mark.parametrize("usd", [0.0988, 1.23e-5, 12345.6])
def test_the_answer_fits_80_columns(usd: float) -> None:
    names = ("ODS, oracle *", "LambdaML", "whole model, one function", "whole model, 64 lanes")
    rows = [Row(name, "lambda", usd, usd, usd, 123.45, 234.56, 327_109, late_share=0.27) for name in names]
    rows.append(Row("CPU, 20% busy month", "cluster", usd, None, usd, 123.45, None, 327_109, period="month"))
    with out.capture() as shown:
        out.print(answer_table(rows, "a model, 5,120 tokens a batch", 0.05))
    lines = shown.get().splitlines() + legend(rows, 0.05).splitlines()
    assert any("100% " in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_the_legend_explains_what_stands_in_the_table_and_nothing_else() -> None:
    def row(name: str, **more: object) -> Row:
        return Row(name, "lambda", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, **more)  # type: ignore[arg-type]

    plain = legend([row("ODS"), row("LambdaML", feasible=True)], 0.05)
    assert "ODS: " in plain
    assert not any(word in plain for word in ("oracle", "CPU: ", "lanes", "late: ", "!: ", "*: "))
    marked = legend([row("ODS, oracle", feasible=False, late_share=0.2), row("whole model, 3 lanes")], 0.05)
    assert all(word in marked for word in ("oracle", "lanes", "late: ", "!: ", "*: "))
    assert "!: " not in legend([row("ODS", late_share=0.05)], 0.05)

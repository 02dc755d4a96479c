"""Tables of pages: a bar or a number in a cell must not break the table that a reader sees."""

from experiments.tools.markdown import number, table


def test_a_table_has_a_line_a_row_and_as_many_cells_everywhere() -> None:
    """A cell with a bar in it stays one cell."""
    text = table(("a", "b"), [("P(x|y)", 1), ("", None)])
    assert text == "| a | b |\n| --- | --- |\n| P(x\\|y) | 1 |\n|  | None |"
    assert table(("a",), [], rule="---") == "| a |\n|---|"


def test_numbers_are_short() -> None:
    """Three figures are enough to read; thousands are not written as powers of ten."""
    assert [number(x) for x in (None, 0.0123456, 999.4, -1234.5, 1e6)] == [
        "-",
        "0.0123",
        "999",
        "-1,234",
        "1,000,000",
    ]

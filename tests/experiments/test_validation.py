"""The validation page: if this fails, it says something else than the simulator does."""

from experiments.validation import closed_form_checks, fan_in, page


def test_the_closed_form_is_met_as_the_page_says() -> None:
    for check in closed_form_checks(cases=4):
        if "(equal)" in check.what:
            assert abs(check.error) < 1e-9, check.what
        else:
            assert check.error <= 1e-9, check.what


def test_tails_slow_a_layer_down() -> None:
    assert all(row.tails > 0 for row in fan_in(seeds=2))


def test_the_page_has_a_row_for_every_check() -> None:
    text = page(seeds=2)
    for what in ("M/M/inf", "Erlang-B", "sliding window", "Eq. 6-11", "latency tails", "token bucket"):
        assert what in text

"""The command cost: what each contender costs a month, why one does not serve, who is cheapest where."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cost.asked import contenders_of, numbers_of
from experiments.cost.compare import compare, offers_at, prepare
from simulator.servers.promise import Promise
from simulator.traffic.requests import Traffic
from tests.experiments.cost.questions import asked

FEW = (
    "lambda-x86_64",
    "lambda-provisioned",
    "fargate",
    "ec2-c8g.large",
    "gpu-g6.xlarge",
)
Run = Callable[..., tuple[int, str, str]]
Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(smoe: Run) -> Callable[..., dict[str, Any]]:
    """What the command answers, as JSON."""

    def answered(*arguments: str) -> dict[str, Any]:
        code, printed, said = smoe("cost", *arguments, "--json")
        assert code == 0, said
        data: dict[str, Any] = json.loads(printed)
        return data

    return answered


def test_every_dollar_is_in_a_part_and_the_cheapest_is_first(answer: Answer) -> None:
    data = answer(
        "bert-moe", "--requests-per-month", "1e6", "--tokens-in", "128", "--slo", "1s@p99", "--only", ",".join(FEW)
    )
    assert data["schema"] == "cost/1"
    for row in data["contenders"]:
        assert (row["monthly_usd"] is None) == (row["parts"] is None) == (row["why_not"] is not None)
    serving = [row for row in data["contenders"] if row["fits"]]
    assert len(serving) == len(FEW)
    for row in serving:
        assert sum(row["parts"].values()) == pytest.approx(row["monthly_usd"])
        assert row["latency_s"]["p99"] <= 1.0
        assert row["monthly_usd_interval"][0] <= row["monthly_usd"] <= row["monthly_usd_interval"][1]
        assert row["usd_per_million_tokens"] == pytest.approx(row["monthly_usd"] / 128)
    bills = [row["monthly_usd"] for row in serving]
    assert bills == sorted(bills)
    assert data["cheapest"] == serving[0]["name"]


def test_where_nothing_is_promised_the_usual_is_taken_and_said(smoe: Run) -> None:
    """Else machines are sized to be busy all the time, with minutes of latency that nobody wants."""
    few = ("--requests-per-month", "1e3", "--tokens-in", "128", "--only", "lambda-arm64,ec2-c8g.medium,fargate")
    code, printed, _ = smoe("cost", "minilm-moe", *few)
    text = " ".join(printed.split())
    assert code == 0
    assert "request in 1 s at p95 (the usual promise: --slo says another)" in text
    assert "Without that promise lambda-arm64 would cost" in text
    wide = json.loads(smoe("cost", "minilm-moe", *few, "--slo", "60s", "--json")[1])
    assert wide["slo"] == {"latency_s": 60.0, "percentile": 95.0, "assumed": False}
    assert wide["cheapest"] == "lambda-arm64"
    writes = ("gpt-oss-20b", "--requests-per-month", "1e6", "--tokens-in", "512", "--tokens-out", "64")
    usual = json.loads(smoe("cost", *writes, "--only", "gpu-g6e.xlarge,ec2-r7i.4xlarge", "--json")[1])
    assert usual["slo"]["assumed"]
    for row in usual["contenders"]:
        assert not row["fits"] or (row["ttft_s"]["p95"] <= 2 and row["tpot_s"]["p95"] <= 0.1)


def test_more_tokens_and_more_requests_never_cost_less() -> None:
    contenders = contenders_of(("lambda-x86_64", "gpu-g6.xlarge", "fargate"))
    before: dict[str, float] = {}
    for per_month, tokens in ((1e5, 64.0), (1e6, 64.0), (1e6, 256.0), (1e8, 256.0)):
        question = asked(traffic=Traffic("poisson", per_month, tokens), promise=Promise())
        bills = {offer.contender: offer.usd or 0.0 for offer in offers_at(question, prepare(question, contenders))}
        assert all(bills[name] >= usd * (1 - 1e-9) for name, usd in before.items())
        before = bills


def test_a_range_has_points_and_crossovers_where_both_cost_the_same(answer: Answer) -> None:
    names = ("lambda-x86_64", "gpu-g6.xlarge")
    slow = ("--tokens-in", "128", "--slo", "900s", "--only", ",".join(names))
    data = answer("bert-moe", "--requests-per-month", "1e6..1e9", *slow)
    assert [point["requests_per_month"] for point in data["points"]] == [1e6, 1e7, 1e8, 1e9]
    (crossing,) = data["crossovers"]
    assert (crossing["from"], crossing["to"]) == names
    question = asked(crossing["requests_per_month"], promise=Promise())
    one, other = offers_at(question, prepare(question, contenders_of(names)))
    assert one.usd == pytest.approx(other.usd, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bert-mo", "--requests-per-month", "1e6", "--tokens-in", "128"], "did you mean 'bert-moe'"),
        (["bert-moe", "--requests-per-month", "1e6"], "--tokens-in"),
        (["bert-moe", "--tokens-in", "128"], "--requests-per-month"),
        (["bert-moe", "--requests-per-month", "many", "--tokens-in", "1"], "expected a number"),
        (["bert-moe", "--requests-per-month", "1e9..1e6", "--tokens-in", "1"], "rises"),
        (["bert-moe", "--requests-per-month", "0", "--tokens-in", "1"], "more than 0"),
        (
            ["bert-moe", "--requests-per-month", "1e6", "--tokens-in", "5000"],
            "beyond the context of bert-moe, 512",
        ),
        (["bert-moe", "--requests-per-month", "1e6", "--tokens-in", "9", "--tokens-out", "9"], "writes no tokens"),
        (["bert-moe", "--requests-per-month", "1e6", "--tokens-in", "9", "--slo", "ttft=1s"], "expected latency"),
        (
            ["bert-moe", "--requests-per-month", "1e6", "--tokens-in", "9", "--slo", "latenzy=1s"],
            "did you mean 'latency'",
        ),
        (
            ["bert-moe", "--requests-per-month", "1e6", "--tokens-in", "9", "--only", "fargat"],
            "did you mean 'fargate'",
        ),
        (["bert-moe", "--traffic", "azure-conversation-2024"], "azure-conversation-2023"),
    ],
)
def test_bad_input_is_one_line(smoe: Run, arguments: Sequence[str], said: str) -> None:
    code, _, told = smoe("cost", *arguments)
    assert code == 2
    assert said in told
    assert len(told.splitlines()) == 1


def test_traces_and_price_files_that_say_too_little(smoe: Run, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    (tmp_path / "units.csv").write_text("when,n\n1,5\n2,6\n")
    (tmp_path / "prices.yaml").write_text("region: eu\nprice_list_date: '2026-11'\nprices: {lambda.gbs: 1.0e-5}\n")
    for name, said in (("none.csv", "expected requests"), ("units.csv", "none of the known formats")):
        assert said in smoe("cost", "bert-moe", "--traffic", str(tmp_path / name))[2]
    prices = ("--region-prices", str(tmp_path / "prices.yaml"))
    _, _, told = smoe("cost", "bert-moe", "--requests-per-month", "1e6", "--tokens-in", "9", *prices)
    assert "did you mean 'lambda.gb_s'" in told


def test_prices_of_another_region_are_used_and_named(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "region: eu-west-9\nprice_list_date: '2026-11-01'\nprices: {ec2.c8g.large: 1.0, fargate.vcpu_hour: 0.1}\n"
    )
    only = ("--only", "ec2-c8g.large,fargate", "--region-prices", str(tmp_path / "prices.yaml"))
    data = answer("minilm-moe", "--requests-per-month", "1e3", "--tokens-in", "64", *only)
    bills = {row["name"]: row["monthly_usd"] for row in data["contenders"]}
    assert (data["region"], data["price_list_date"]) == ("eu-west-9", "2026-11-01")
    assert bills["ec2-c8g.large"] == pytest.approx(730)
    assert bills["fargate"] == pytest.approx((0.1 + 2 * 0.004445) * 730)


def test_nobody_serves_is_a_table_of_reasons_and_exit_2(smoe: Run) -> None:
    tokens = ("--requests-per-month", "1e6", "--tokens-in", "512", "--tokens-out", "64", "--slo", "tpot=0.01s@p95")
    code, printed, _ = smoe("cost", "mixtral-8x7b", *tokens, "--only", "gpu-g6.xlarge,lambda-x86_64")
    assert code == 2
    assert "does not fit: 93.4 GB > 21.6 GB" in printed
    assert "SLO missed" in printed


def test_the_table_is_within_80_columns_and_files_say_the_same(smoe: Run, tmp_path: Path) -> None:
    import pandas as pd

    out = tmp_path / "out"
    tokens = ("--requests-per-month", "1e5", "--tokens-in", "200", "--tokens-out", "50", "--out", str(out))
    code, printed, said = smoe("cost", "gpt-oss-20b", *tokens, "--only", "gpu-g6e.xlarge,tokens,lambda-arm64")
    assert code == 0, said
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    data = json.loads((out / "cost.json").read_text())
    table = pd.read_csv(out / "cost.csv")
    bills = [row["monthly_usd"] for row in data["contenders"] if row["monthly_usd"]]
    assert table["monthly_usd"].dropna().tolist() == pytest.approx(bills)
    assert (table["price_list_date"] == data["price_list_date"]).all()
    for name in ("cost.parquet", "cost.png", "cost.svg", "curve.csv", "provenance.json"):
        assert (out / name).stat().st_size > 0
    assert {path.stem for path in (out / "plans").iterdir()} == {
        x["name"] for x in data["contenders"] if x["fits"]
    }


def test_what_is_written_of_lambda_is_a_scenario_that_costs_as_much(answer: Answer, tmp_path: Path) -> None:
    from simulator.traffic.open_loop import Replication, read_inputs
    from simulator.traffic.scenario import load_scenario

    only = ("--only", "lambda-x86_64,lambda-provisioned", "--out", str(tmp_path / "out"))
    data = answer("bert-moe", "--requests-per-month", "1e7", "--tokens-in", "128", *only)
    for row in data["contenders"]:
        inputs = read_inputs(load_scenario(tmp_path / "out" / "plans" / f"{row['name']}.yaml", ["requests=12000"]))
        played = Replication(inputs, np.random.default_rng(0)).run().metrics
        usd = played.total_usd_per_1000_requests * 1e4
        assert usd == pytest.approx(row["monthly_usd"], rel=0.15)


def test_a_trace_of_two_requests_is_enough_and_draws_of_nobody_are_none(smoe: Run, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("timestamp_ms,input_tokens,output_tokens\n0,480,10\n2000,310,8\n")
    code, printed, said = smoe(
        "cost", "gpt2-moe", "--traffic", str(tmp_path / "two.csv"), "--only", "lambda-arm64", "--json"
    )
    assert code == 0, said
    assert json.loads(printed)["contenders"][0]["played"]
    few = ("--requests-per-month", "1e6", "--tokens-in", "128", "--only", "tokens", "--draws", "5")
    code, printed, _ = smoe("cost", "bert-moe", *few)
    assert code == 2
    assert "no price for bert-moe" in printed


def test_a_busy_half_of_the_day_costs_fixed_machines_more_and_scaled_ones_less() -> None:
    names = ("ec2-c6i.large", "fargate")
    bills = {}
    for peak in (1.0, 1.8):
        question = asked(traffic=Traffic("poisson", 1e8, 128.0, peak_to_mean=peak), promise=Promise())
        offers = offers_at(question, prepare(question, contenders_of(names)))
        bills[peak] = {offer.contender: offer.usd or 0.0 for offer in offers}
    assert bills[1.8]["ec2-c6i.large"] / bills[1.0]["ec2-c6i.large"] == pytest.approx(1.8, rel=0.1)
    assert bills[1.8]["fargate"] / bills[1.0]["fargate"] < 1.15


def test_numbers_of_requests() -> None:
    assert numbers_of("1e6") == [1e6]
    assert numbers_of("3e4..2e6") == [3e4, 1e5, 1e6, 2e6]


def test_the_same_seed_gives_the_same_answer() -> None:
    contenders = contenders_of(("lambda-x86_64", "gpu-g6.xlarge"))
    question = asked(1e5)
    one, two = (compare(question, contenders, [1e5]).points[0][1] for _ in range(2))
    assert [offer.usd for offer in one] == [offer.usd for offer in two]
    assert [offer.at(99) for offer in one] == [offer.at(99) for offer in two]


def test_draws_say_how_surely_and_what_to_measure(answer: Answer) -> None:
    """Lambda and two Fargate tasks cost the same here: neither is sure, and a probe's cost is named."""
    only = ("--only", "lambda-x86_64,fargate-spot", "--draws", "30")
    data = answer("bert-moe", "--requests-per-month", "1.5e6", "--tokens-in", "128", "--slo", "1s@p99", *only)
    shares = data["draws"]["probability"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert 0.1 < shares["lambda-x86_64"] < 0.9
    for row in data["contenders"]:
        assert row["probability_cheapest"] == shares[row["name"]]
        low, high = row["monthly_usd_interval"]
        assert low <= row["monthly_usd"] < high
    assert "USD" in data["draws"]["how"]


def test_a_trace_longer_than_the_context_is_cut_and_that_is_said(answer: Answer, tmp_path: Path) -> None:
    rows = "".join(f"{k},{200 if k % 2 else 900},50\n" for k in range(200))
    (tmp_path / "t.csv").write_text(f"timestamp_ms,input_tokens,output_tokens\n{rows}")
    data = answer("minilm-moe", "--traffic", str(tmp_path / "t.csv"), "--only", "gpu-g6.xlarge")
    assert data["traffic"]["tokens_in"] == pytest.approx((200 + 512) / 2)
    assert data["traffic"]["tokens_out"] == 0
    assert any("50% of the requests" in note for note in data["notes"])
    assert any("writes no tokens" in note for note in data["notes"])

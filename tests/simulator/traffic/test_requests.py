"""Traffic with tokens: formats that people have, shapes fitted to traces, any number of requests a month."""

from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from simulator.traffic.request_file import read_requests
from simulator.traffic.requests import MONTH_S, Requests, Traffic, shape_names, traffic_of_shape, traffic_of_trace

SHARED = Path(__file__).parents[4] / "shared" / "data" / "traffic"

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,4808,10\n2023-11-16 18:17:05.47,31,8\n"
MOONCAKE = (
    '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    '{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [2]}\n'
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n"
)
FUNCTIONS = "app,func,end_timestamp,duration\na,f,12.5,2.5\nb,g,11.0,0.5\n"


@pytest.mark.parametrize(
    ("name", "text", "at_s", "tokens_in"),
    [
        ("azure.csv", AZURE, [0, 1.5], [4808, 31]),
        ("mooncake.jsonl", MOONCAKE, [0, 3], [6758, 7322]),
        ("burstgpt.csv", BURSTGPT, [0, 40], [472, 1087]),
        ("functions.csv", FUNCTIONS, [0, 0.5], [64, 64]),
        ("mine.csv", "t (ms),n,m\n100,7,1\n1600,9,1\n", [0, 1.5], [7, 9]),
    ],
)
def test_each_format_is_told_by_its_header(
    name: str, text: str, at_s: list[float], tokens_in: list[int], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    said = {"time": "t (ms)", "in": "n", "out": "m"} if name == "mine.csv" else None
    found = read_requests(tmp_path / name, said, (64, 0))
    assert found.at_s == pytest.approx(at_s)
    assert found.tokens_in.tolist() == tokens_in


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        ("when,n\n1,2\n", {"time": "when", "in": "n"}, "expected its unit"),
        ("when,n\n1,2\n", None, "none of the known formats"),
        ("when,n\n1,2\n", {"time": "wen", "unit": "s"}, "did you mean 'when'"),
        ("when,n\n1,2\n", {"time": "when", "unit": "mss"}, "no unit 'mss'"),
        ("when,n\n1,two\n", {"time": "when", "in": "n", "unit": "s"}, "line 2: expected a number"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", None, "expected requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", None, "expected a date"),
        (FUNCTIONS, None, "it has no tokens"),
    ],
)
def test_a_trace_that_says_too_little_is_refused(
    text: str, said: dict[str, str] | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        read_requests(tmp_path / "x.csv", said)


def dispersion(at_s: np.ndarray, window_s: float) -> float:
    counts = np.histogram(at_s, np.arange(0, at_s[-1], window_s))[0]
    return float(counts.var() / counts.mean())


@pytest.mark.parametrize(
    ("name", "gaps", "expected"), [("azure-conversation-2023", 55.3, 3.87), ("azure-code-2023", 25.7, 71.9)]
)
def test_shapes_are_as_bursty_as_their_traces(name: str, gaps: float, expected: float) -> None:
    """Variance over mean of the arrivals in 10 s of the trace, at whatever rate."""
    for per_month in (1e5, 1e8):
        traffic = traffic_of_shape(name, per_month)
        window = traffic.window(200_000, traffic.rate, np.random.default_rng(1))
        assert dispersion(window.at_s, gaps / traffic.rate) == pytest.approx(expected, rel=0.35)
        assert len(window) / window.at_s[-1] == pytest.approx(traffic.rate, rel=0.25)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("AzureLLMInferenceTrace_conv.csv", "azure-conversation-2023"),
        ("AzureLLMInferenceTrace_code.csv", "azure-code-2023"),
        ("mooncake_conversation.csv", "mooncake-conversation-2024"),
    ],
)
def test_shapes_have_the_tokens_of_their_traces(file: str, shape: str) -> None:
    trace = read_requests(SHARED / file)
    tokens_in, tokens_out = traffic_of_shape(shape).sample(50_000)
    assert tokens_in.mean() == pytest.approx(trace.tokens_in.mean(), rel=0.05)
    assert tokens_out.mean() == pytest.approx(trace.tokens_out.mean(), rel=0.05)
    assert traffic_of_trace(file, trace).per_month == pytest.approx(traffic_of_shape(shape).per_month, rel=0.001)


def test_a_trace_at_another_rate_is_stretched_and_keeps_its_tokens() -> None:
    trace = Requests(np.array([0.0, 1.0, 1.5, 6.0]), np.array([1, 2, 3, 4]), np.array([0, 0, 0, 0]))
    traffic = traffic_of_trace("x", trace, per_month=MONTH_S)  # one a second
    window = traffic.window(100, traffic.rate, np.random.default_rng(0))
    assert window.at_s == pytest.approx([0.0, 0.5, 0.75, 3.0])
    assert window.tokens_in.tolist() == [1, 2, 3, 4]


def test_a_day_up_and_down_has_the_mean_rate() -> None:
    levels = Traffic("poisson", 1e6, 64, peak_to_mean=1.8).levels
    assert sum(factor * share for factor, share in levels) == pytest.approx(1.0)
    assert max(factor for factor, _ in levels) == pytest.approx(1.8)


def test_what_is_beyond_the_context_is_cut_and_counted() -> None:
    traffic = Traffic("poisson", 1e6, {0.01: 10.0, 0.5: 100.0, 0.99: 1000.0}, 20.0, most_tokens=110)
    tokens_in, tokens_out = traffic.sample(1000)
    assert (tokens_in + tokens_out).max() == 110
    assert 0.4 < traffic.beyond() < 0.6


def test_every_shape_names_its_source() -> None:
    assert len(shape_names()) == 3
    with pytest.raises(InputError, match="azure-code-2023"):
        traffic_of_shape("azure-cod-2023")

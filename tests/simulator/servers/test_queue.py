"""The played queue of servers against theory, and the closed form against the played queue."""

from dataclasses import replace

import numpy as np
import pytest

from moe.spec import load_spec
from simulator.profiles.contenders import Servers, load_contender
from simulator.profiles.instances import catalogue
from simulator.servers.machine import Machine, machines
from simulator.servers.promise import Promise, read_promise
from simulator.servers.queue import play
from simulator.servers.sizing import Load, erlang_c, expect, size
from simulator.servers.work import Work


def a_machine(model: str, like: str, contender: str) -> Machine:
    servers = load_contender(contender).runs
    assert isinstance(servers, Servers)
    return machines(servers, Work(load_spec(model, weights="bf16")), [catalogue()[like]])[0]


ENCODER = a_machine("bert-moe", "c8g.xlarge", "ec2")
DECODER = a_machine("gpt-oss-20b", "g6e.xlarge", "gpu")


def poisson(rate: float, count: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


@pytest.mark.parametrize("count", [1, 3])
def test_one_request_at_a_time_is_m_d_c(count: int) -> None:
    """Poisson arrivals, every request alike: the mean wait of M/D/c by Cosmetatos, of M/D/1 exactly."""
    tokens = np.full(40_000, 128)
    service = float(ENCODER.pass_s(128))
    rho = 0.8
    served = play(ENCODER, count, poisson(rho * count / service, len(tokens), 1), tokens, 0 * tokens, at_once=1)
    load = rho * count
    m_m_c = erlang_c(count, load) * service / (count - load)
    correction = 1 + (1 - rho) * (count - 1) * (np.sqrt(4 + 5 * count) - 2) / (16 * rho * count)
    assert (served.times.latency_s - service).mean() == pytest.approx(m_m_c / 2 * correction, rel=0.06)
    assert served.busy_s / served.end_s / count == pytest.approx(rho, rel=0.02)


def test_requests_of_two_lengths_wait_as_m_g_1() -> None:
    """Pollaczek and Khinchine, exactly."""
    rng = np.random.default_rng(0)
    tokens = rng.choice([32, 512], 60_000)
    works = np.asarray(ENCODER.pass_s(tokens))
    rate = 0.7 / works.mean()
    served = play(ENCODER, 1, poisson(rate, len(tokens), 2), tokens, 0 * tokens, at_once=1)
    expected = rate * (works**2).mean() / (2 * (1 - rate * works.mean()))
    assert (served.times.latency_s - works).mean() == pytest.approx(expected, rel=0.06)


def test_a_sequence_alone_takes_its_prompt_and_a_step_a_token() -> None:
    served = play(DECODER, 1, np.array([0.0]), np.array([512]), np.array([128]), at_once=8)
    assert served.times.ttft_s[0] == pytest.approx(float(DECODER.pass_s(512)))
    assert served.times.tpot_s[0] == pytest.approx(float(DECODER.token_s(1, 513)), rel=0.001)


@pytest.mark.parametrize("sequences", [5.0, 30.0])
def test_the_closed_form_of_generation_is_what_is_played(sequences: float) -> None:
    """Time per token within 10%, and the first token's p95 within a step or two."""
    tokens_in, tokens_out = np.full(4000, 512), np.full(4000, 128)
    rate = sequences / (128 * float(DECODER.token_s(sequences, 576)) * 1.3)
    found = expect(DECODER, 1, Load(rate, tokens_in, tokens_out), 200)
    assert found is not None
    served = play(DECODER, 1, poisson(rate, 4000, 3), tokens_in, tokens_out, 200)
    assert served.times.tpot_s[500:].mean() == pytest.approx(found.times.tpot_s.mean(), rel=0.1)
    played, expected = (float(np.percentile(each.ttft_s, 95)) for each in (served.times, found.times))
    assert played == pytest.approx(expected, rel=0.35)


def test_the_fewest_machines_that_keep_a_promise() -> None:
    load = Load(20.0, np.full(500, 512.0), np.full(500, 128.0))
    found = size(DECODER, load, Promise(ttft_s=2.0, tpot_s=0.1))
    assert found.count >= 1
    assert found.expected is not None
    assert Promise(2.0, 0.1).worst(found.expected.times) <= 1
    tighter = size(DECODER, load, Promise(ttft_s=2.0, tpot_s=0.013))
    assert tighter.count > found.count
    never = size(DECODER, load, Promise(tpot_s=1e-4))
    assert never.why_not is not None
    assert "time per output token" in never.why_not


def test_long_requests_need_room_for_their_keys_and_values() -> None:
    small = replace(DECODER, room_bytes=1e9)
    found = size(small, Load(1.0, np.array([100_000.0]), np.array([100.0])), Promise())
    assert found.why_not is not None
    assert "do not fit" in found.why_not


def test_a_promise_in_the_words_of_the_field() -> None:
    assert read_promise("ttft=2s,tpot=0.1s@p95") == Promise(ttft_s=2.0, tpot_s=0.1, percentile=95.0)
    assert (
        read_promise("latency=200ms@p99") == read_promise("200ms@p99") == Promise(latency_s=0.2, percentile=99.0)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttf=2s", "did you mean 'ttft'"),
        ("latency=1x", "expected a time"),
        ("1s@99", "@p95"),
        ("1s,latency=2s", "twice"),
    ],
)
def test_a_promise_in_other_words_is_refused(text: str, said: str) -> None:
    from moe.errors import InputError

    with pytest.raises(InputError, match=said):
        read_promise(text)

"""Every predictor through the contract that the package ships; and what breaks it is told."""

import sys
from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity import PREDICTORS, Batch, Predictor, predictor
from optimizer.popularity.contract import PredictorContract, check_predictor, profiled, served

CASES: list[tuple[str, dict[str, str]]] = [(name, {}) for name in PREDICTORS]
CASES += [(name, {"counting": "expected"}) for name in ("lina", "position")]
CASES += [("bayes", {"variant": v, "counting": c}) for v in ("mixture", "backoff") for c in ("hard", "expected")]


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(x.values()) or "default"
)
class TestPredictors(PredictorContract):
    """The contract, for each predictor."""

    @pytest.fixture(autouse=True)
    def _named(self, name: str, options: dict[str, str]) -> None:
        self.name, self.options, self.needs_served = name, options, name == "oracle"

    def make(self) -> Predictor:
        return predictor(self.name, **self.options)


class Mine(Predictor):
    """A user's predictor, as the documentation shows one: all tokens go where most went."""

    def learn(self, trace: RoutingTrace) -> None:
        self.hottest = trace.popularity().argmax(axis=1)

    def popularity(self, batch: Batch) -> np.ndarray:
        popularity = np.zeros((self.shape.layers, self.shape.experts))
        popularity[np.arange(self.shape.layers), self.hottest] = len(batch.token_id) * self.shape.top_k
        return popularity


class Loses(Mine):
    def popularity(self, batch: Batch) -> np.ndarray:
        return super().popularity(batch) * 0.99


class Remembers(Mine):
    def popularity(self, batch: Batch) -> np.ndarray:
        self.hottest = (self.hottest + 1) % self.shape.experts
        return super().popularity(batch)


class Peeks(Mine):
    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        return super().predict(token_ids) if served is None else served.popularity().astype(float)


class Draws(Mine):
    def learn(self, trace: RoutingTrace) -> None:
        self.hottest = np.random.default_rng().integers(0, 4, trace.layers)


class Writes(Mine):
    def learn(self, trace: RoutingTrace) -> None:
        super().learn(trace)
        trace.experts[:] = 0


class Credulous:
    """Checks nothing."""

    def fit(self, trace: RoutingTrace) -> "Credulous":
        self.mine = Mine()
        self.mine._shape = None
        self.mine.fit(trace if trace.tokens else profiled())
        return self

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        return self.mine.predict(token_ids)


def test_a_predictor_of_a_user_s_own_passes() -> None:
    check_predictor(Mine)
    check_predictor(lambda: predictor("bayes", variant="backoff"))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Loses, "rows must sum to tokens x top-k"),
        (Remembers, "whatever was predicted before"),
        (Peeks, "does not look at the served routing"),
        (Draws, "same bytes"),
        (Writes, "leave traces alone"),
        (Credulous, "an empty profile: expected an InputError"),
    ],
)
def test_what_breaks_the_contract_is_told(broken: type[Predictor], said: str) -> None:
    """A contract that passes everything protects nobody."""
    with pytest.raises(AssertionError, match=said):
        check_predictor(broken)


def test_a_predictor_is_found_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "hers.py").write_text(
        "from optimizer.popularity import Predictor\n"
        "from optimizer.popularity.interface import Uniform\n"
        "class Even(Uniform):\n    def __init__(self, scale=1.0):\n        self.scale = scale\n"
        "def made(seed=0):\n    return Even(seed)\n"
        "nothing = object\ndef odd():\n    return 1\n"
    )
    trace, before = served(1), list(sys.path)
    for name in ("hers:Even", "hers:made"):
        found = predictor(name).fit(profiled()).predict(trace.token_id)
        assert np.all(found == trace.tokens / 4)
    assert predictor("hers:Even", scale=2.0).scale == 2.0  # type: ignore[attr-defined]
    assert sys.path == [*before, str(tmp_path)]  # looked at last: it shadows nothing
    for name, said in (
        ("hers:Evne", "a class with fit and predict or a function that it defines; did you mean 'Even'"),
        ("his:Even", "no module his of your own in"),
        ("hers:nothing", "expected a class with fit and predict"),
        ("hers:odd", "expected an object with fit and predict"),
        (":Even", "no module .no name. of your own"),
    ):
        with pytest.raises(InputError, match=said):
            predictor(name)
    with pytest.raises(InputError, match="no option 'scael'; did you mean 'scale'"):
        predictor("hers:Even", scael=1)

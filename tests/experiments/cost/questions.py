"""Questions that the tests of cost ask."""

from __future__ import annotations

from typing import Any

from experiments.cost.question import Question
from moe.spec import load_spec
from simulator.servers.promise import Promise
from simulator.traffic.requests import Traffic

BERT = load_spec("bert-moe")

WITHIN_1_S = Promise(latency_s=1.0, percentile=99)


def asked(per_month: float = 1e6, **changes: Any) -> Question:
    given = {"spec": BERT, "traffic": Traffic("poisson", per_month, 128.0), "promise": WITHIN_1_S}
    return Question(**given | changes)

"""S3 and Lambda in memory, and a tiny encoder: a live model's chain without an endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lambda_probe.handlers import live
from lambda_probe.handlers.exchange import Account, Stopped, pack, text_of
from lambda_probe.handlers.layers import Sizes
from moe.pretrained.export import ExportedModel, export
from moe.pretrained.models import LoadedModel
from moe.pretrained.settings import GateKind, GateSettings
from moe.spec import MoESpec

SEQUENCE = 6


def tiny_model(layers: int = 2, experts: int = 3, top_k: int = 1, gate: GateKind = "random") -> ExportedModel:
    """An encoder of random weights, exported with perturbed experts."""
    import torch  # three seconds, which not every process of the tests needs
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        attn_implementation="eager",
    )
    loaded = LoadedModel("tiny", "tiny", BertModel(config).eval(), None, 0.0)
    gates = GateSettings(experts=experts, top_k=top_k, gate=gate)
    return export(loaded, gates, layers, SEQUENCE, tokens(4), noise=0.5)


def tokens(sequences: int, seed: int = 0) -> np.ndarray:
    """Token IDs (S, n)."""
    return np.random.default_rng(seed).integers(0, 50, (sequences, SEQUENCE)).astype(np.int32)


class MemoryWorld:
    """A World whose objects are in a dict; a function is a call of the handlers, in a thread where it is started.

    `wrong`: called with a function's event before it runs; may raise, or change it.
    """

    def __init__(self, wrong: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[dict[str, Any]] = []
        self.errors: list[BaseException] = []
        self._wrong = wrong
        self._threads: list[threading.Thread] = []

    def get(self, key: str) -> bytes:
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def has(self, key: str) -> bool:
        return key in self.objects

    def start(self, function: str, event: dict[str, Any]) -> None:
        thread = threading.Thread(target=self._run, args=(json.loads(json.dumps(event)),))
        thread.start()
        self._threads.append(thread)

    def ask(self, function: str, event: dict[str, Any]) -> Any:
        try:
            return self._serve(json.loads(json.dumps(event)))
        except Exception as error:
            raise Stopped(f"{function}: {error}") from error

    def join(self) -> None:
        """Until every function has ended."""
        while self._threads:
            self._threads.pop().join(30)

    def _run(self, event: dict[str, Any]) -> None:
        try:
            self._serve(event)
        except Exception as error:
            self.errors.append(error)

    def _serve(self, event: dict[str, Any]) -> Any:
        if self._wrong is not None:
            self._wrong(event)
        self.asked.append(event)
        return live.serve(self, event, request_id=str(len(self.asked)))


def serve(
    world: MemoryWorld,
    model: ExportedModel,
    batch: np.ndarray,
    communication: str,
    minibatch_tokens: int | None = None,
    replicas: int = 1,
    capacity: int = 10**6,
    keep: bool = False,
) -> np.ndarray | None:
    """Serve a batch; what the tail computed, or None."""
    for e, arrays in enumerate(model.non_moe):
        world.put(f"non-moe-{e}", pack(arrays))
    for e, experts in enumerate(model.experts):
        for i, arrays in enumerate(experts):
            world.put(f"expert-{e}-{i}", pack(arrays))
    sizes = Sizes(model.heads, model.sequence_tokens, model.top_k, model.epsilon)
    layers = [
        {
            "communication": communication,
            "minibatch_tokens": minibatch_tokens,
            "experts": [
                {"function": "f", "parameters": f"expert-{e}-{i}", "replicas": replicas, "capacity": capacity}
                for i in range(len(experts))
            ],
        }
        for e, experts in enumerate(model.experts)
    ]
    non_moe = [{"function": "f", "parameters": f"non-moe-{e}"} for e in range(len(model.non_moe))]
    event = {
        "batch": "b",
        "bucket": "",
        "poll_s": 0.001,
        "keep": keep,
        "role": "non-moe",
        "layer": 0,
        "model": {"sizes": vars(sizes), "layers": layers, "non_moe": non_moe},
        "token_ids": text_of(batch.tobytes()),
        "function": "f",
        "caller": "",
        "sent_s": 0.0,
    }
    world.start("f", event)
    world.join()
    found = world.objects.get("b/output")
    return None if found is None else np.frombuffer(found, np.float32).reshape(batch.size, -1)


@contextmanager
def accounts(capsys: Any) -> Iterator[list[Account]]:
    """What the calls inside told when they ended; filled in at the end."""
    from lambda_probe.handlers.exchange import MARK

    found: list[Account] = []
    capsys.readouterr()
    yield found
    for line in capsys.readouterr().out.splitlines():
        if line.startswith(MARK):
            account = Account(**json.loads(line.removeprefix(MARK)))
            if account.ended_s:
                found.append(account)


def spec_of_tiny(model: ExportedModel) -> MoESpec:
    """Sizes of a tiny model."""
    return MoESpec(
        name="tiny",
        source="test",
        moe_layers=len(model.experts),
        hidden=model.hidden,
        experts=len(model.experts[0]),
        top_k=model.top_k,
        expert_ffn=model.expert_ffn,
        vocabulary=50,
        sequence_tokens=SEQUENCE,
    )

"""The function of a non-MoE layer: gathers the layer before, computes attention and gate, scatters to experts.

Function e of a model with L MoE layers computes what comes before MoE layer e; function 0 has the embedding,
function L is the tail. The chain is that of `simulator/serving/forward_pass.py`: a function starts experts and the
next function, and nobody waits for it but, with `direct`, itself for its experts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lambda_probe.handlers import layers
from lambda_probe.handlers.dealing import (
    LayerFunctions,
    Share,
    add_results,
    cuts,
    deal,
    input_rows,
    sorted_pairs,
)
from lambda_probe.handlers.exchange import (
    Exchange,
    at_once,
    bytes_of,
    in_order,
    object_key,
    parameters,
    text_of,
)

if TYPE_CHECKING:
    import numpy as np


def serve(exchange: Exchange, event: dict[str, Any]) -> dict[str, Any]:
    """One call of non-MoE function `event["layer"]` of the model that `event["model"]` describes."""
    model, e = event["model"], event["layer"]
    sizes, following = layers.Sizes(**model["sizes"]), [LayerFunctions.of(x) for x in model["layers"]]
    arrays = parameters(exchange, model["non_moe"][e]["parameters"], event["keep"])
    results = None if e == 0 else _gather(exchange, event, following[e - 1], sizes)
    with exchange.phase("compute"):
        hidden = _begin(event, arrays, sizes, results)
        exchange.account.tokens = len(hidden)
        if e == len(following):
            exchange.put(output_key(event["batch"]), hidden.tobytes(), exchange=False)
            return {}
        hidden = layers.attention(hidden, arrays, sizes)
        chosen, weights = layers.gate(hidden, arrays, sizes)
    _Scatter(exchange, event, following[e], hidden, chosen, weights).run()
    return {}


def output_key(batch: str) -> str:
    """Of what the tail computes: fp32, (tokens, hidden)."""
    return f"{batch}/output"


def _begin(
    event: dict[str, Any], arrays: dict[str, np.ndarray], sizes: layers.Sizes, results: np.ndarray | None
) -> np.ndarray:
    import numpy as np

    if results is not None:
        return layers.norm(results, arrays, "output_norm", sizes.epsilon)
    tokens = np.frombuffer(bytes_of(event["token_ids"]), np.int32).reshape(-1, sizes.sequence_tokens)
    return layers.embed(tokens, arrays, sizes)


def _gather(exchange: Exchange, event: dict[str, Any], layer: LayerFunctions, sizes: layers.Sizes) -> np.ndarray:
    """The sums of the layer before, (tokens, hidden): downloaded once the largest replica's result is there."""
    import numpy as np

    chosen = _chosen(event["chosen"], sizes.top_k)
    pairs, e = sorted_pairs(chosen), event["layer"] - 1
    counts = np.bincount(chosen.ravel(), minlength=len(layer.experts)).tolist()
    shares = deal(counts, layer.experts)
    if layer.communication == "direct":
        keys, parts = [_handed_key(event["batch"], e)], [(0, len(pairs))]
    else:
        objects = [(x, k, cut) for x in shares for k, cut in enumerate(cuts(x.tokens, layer.minibatch_tokens))]
        objects.sort(
            key=lambda y: (-y[0].tokens, -y[1])
        )  # the last one of the largest replica is the last to come
        keys = [object_key("out", event["batch"], e, x.expert, x.replica, k) for x, k, _ in objects]
        parts = [(x.first + a, x.first + b) for x, _, (a, b) in objects]
    found = [exchange.take(keys[0], "wait", "gather")]
    with exchange.phase("gather"):
        found += in_order([partial(exchange.take, key) for key in keys[1:]])
    with exchange.phase("compute"):
        width = len(found[0]) // 4 // (parts[0][1] - parts[0][0])
        results = np.empty((len(pairs), width), np.float32)
        for (first, last), data in zip(parts, found, strict=True):
            results[first:last] = np.frombuffer(data, np.float32).reshape(-1, width)
        out = np.zeros((len(chosen), width), np.float32)
        for x in shares:
            part = slice(x.first, x.last)
            add_results(out, results[part], pairs[part], sizes.top_k)
    return out


class _Scatter:
    """From a gate to its experts, and to the next function."""

    def __init__(
        self,
        exchange: Exchange,
        event: dict[str, Any],
        layer: LayerFunctions,
        hidden: np.ndarray,
        chosen: np.ndarray,
        weights: np.ndarray,
    ) -> None:
        import numpy as np

        self._exchange, self._event, self._layer = exchange, event, layer
        self._hidden, self._weights = hidden, weights
        self._chosen = chosen.astype(np.uint8)
        self._pairs = sorted_pairs(chosen)
        counts = np.bincount(chosen.ravel(), minlength=len(layer.experts)).tolist()
        self._shares = deal(counts, layer.experts)

    def run(self) -> None:
        """Scatter, by the layer's method."""
        exchange, shares = self._exchange, self._shares
        if self._layer.communication == "direct":
            self._direct()
            return
        with exchange.phase("compute"):
            self._start_next()
            for x in shares:
                exchange.start(self._layer.experts[x.expert].function, self._asked(x))
            cut = [(x, k, a, b) for x in shares for k, (a, b) in enumerate(cuts(x.tokens, self._size))]
            cut.sort(key=lambda y: y[1])  # round-robin by minibatch, then expert, then replica
            uploads = [partial(self._upload, x, k, self._input(x, a, b)) for x, k, a, b in cut]
        with exchange.phase("upload"):
            (at_once if self._size is None else in_order)(uploads)

    @property
    def _size(self) -> int | None:
        return self._layer.minibatch_tokens

    def _upload(self, share: Share, number: int, data: bytes) -> None:
        key = object_key("in", self._event["batch"], self._event["layer"], share.expert, share.replica, number)
        self._exchange.put(key, data)

    def _input(self, share: Share, first: int, last: int) -> bytes:
        pairs = self._pairs[share.first + first : share.first + last]
        return input_rows(self._hidden, self._weights, pairs).tobytes()

    def _direct(self) -> None:
        """Ask every replica at once, wait for all, hand their results on through S3, start the next function."""
        exchange = self._exchange

        def ask(share: Share, data: bytes) -> bytes:
            return exchange.ask(self._layer.experts[share.expert].function, self._asked(share), data)

        with exchange.phase("compute"):
            asks = [partial(ask, x, self._input(x, 0, x.tokens)) for x in self._shares]
        with exchange.phase("wait"):
            results = at_once(asks)
        with exchange.phase("hand_on"):
            key = _handed_key(self._event["batch"], self._event["layer"])
            exchange.put(key, b"".join(results), exchange=False)
            self._start_next()

    def _start_next(self) -> None:
        e, model = self._event["layer"], self._event["model"]
        event = {**_common(self._event), "role": "non-moe", "layer": e + 1, "model": model}
        chosen = text_of(self._chosen.tobytes())
        self._exchange.start(model["non_moe"][e + 1]["function"], {**event, "chosen": chosen})

    def _asked(self, share: Share) -> dict[str, Any]:
        return {
            **_common(self._event),
            "role": "expert",
            "layer": self._event["layer"],
            "expert": share.expert,
            "replica": share.replica,
            "tokens": share.tokens,
            "parameters": self._layer.experts[share.expert].parameters,
            "communication": self._layer.communication,
            "minibatch_tokens": self._layer.minibatch_tokens,
        }


def _common(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("batch", "bucket", "poll_s", "keep")}


def _handed_key(batch: str, layer: int) -> str:
    return f"{batch}/{layer}/handed-on"


def _chosen(text: str, top_k: int) -> np.ndarray:
    import numpy as np

    return np.frombuffer(bytes_of(text), np.uint8).reshape(-1, top_k)

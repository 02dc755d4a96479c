"""The function of a stage of whole blocks: attention, gate and all experts of its layers, for a lane's sequences.

The client invokes a stage's lanes, waits for their answers, and goes on to the next stage, as in
`simulator/serving/stages.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lambda_probe.handlers import layers
from lambda_probe.handlers.dealing import add_results, input_rows, sorted_pairs
from lambda_probe.handlers.exchange import Exchange, bytes_of, in_order, parameters, text_of

if TYPE_CHECKING:
    import numpy as np


def serve(exchange: Exchange, event: dict[str, Any]) -> dict[str, Any]:
    """One call of a lane: parameters where they are not there yet, input, compute, answer or upload."""
    first, last = event["layer"], event["last_layer"]
    sizes, arrays = layers.Sizes(**event["sizes"]), parameters(exchange, event["parameters"], keep=True)
    hidden = _input(exchange, event, arrays, sizes)
    exchange.account.tokens = len(hidden)
    with exchange.phase("compute"):
        for e in range(first, last + 1):
            hidden = block(hidden, _of(arrays, f"{e}."), sizes)
        out = hidden.tobytes()
    with exchange.phase("upload"):
        if event["output"] is not None:
            exchange.put(event["output"], out, exchange=False)
            return {}
        exchange.account.bytes_out += len(out)
        return {"data": text_of(out)}


def block(hidden: np.ndarray, arrays: layers.Arrays, sizes: layers.Sizes) -> np.ndarray:
    """Attention, gate, experts, and the norm behind them: hidden states (N, hidden) in and out."""
    import numpy as np

    hidden = layers.attention(hidden, arrays, sizes)
    chosen, weights = layers.gate(hidden, arrays, sizes)
    pairs, experts = sorted_pairs(chosen), len(arrays["gate.bias"])
    ends = np.cumsum(np.bincount(chosen.ravel(), minlength=experts))
    out = np.zeros_like(hidden)
    for i, mine in enumerate(np.split(pairs, ends[:-1])):
        rows = input_rows(hidden, weights, mine)
        add_results(out, layers.expert(rows, _of(arrays, f"expert-{i}.")), mine, sizes.top_k)
    return layers.norm(out, arrays, "output_norm", sizes.epsilon)


def _input(exchange: Exchange, event: dict[str, Any], arrays: layers.Arrays, sizes: layers.Sizes) -> np.ndarray:
    """Embedded token IDs, or the hidden states that came with the call or lie in S3."""
    import numpy as np

    if event["layer"] == 0:
        with exchange.phase("compute"):
            tokens = np.frombuffer(bytes_of(event["data"]), np.int32).reshape(-1, sizes.sequence_tokens)
            return layers.embed(tokens, _of(arrays, "0."), sizes)
    with exchange.phase("input_download"):
        if event["inputs"]:
            parts = in_order([partial(exchange.get, key, False) for key in event["inputs"]])
        else:
            parts = [bytes_of(event.pop("data"))]
            exchange.account.bytes_in += len(parts[0])
        width = arrays[f"{event['layer']}.gate.weight"].shape[0]
        return np.frombuffer(b"".join(parts), np.float32).reshape(-1, width)


def _of(arrays: layers.Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin so, without that."""
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}

"""An expert's function: parameters, tokens in, tokens out, by one of the three communication methods."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lambda_probe.handlers import layers
from lambda_probe.handlers.dealing import cuts
from lambda_probe.handlers.exchange import Exchange, bytes_of, object_key, parameters, text_of

if TYPE_CHECKING:
    import numpy as np


def serve(exchange: Exchange, event: dict[str, Any]) -> dict[str, Any]:
    """One call: what the event asks for (`non_moe`); with `direct` the answer has the results."""
    arrays = parameters(exchange, event["parameters"], event["keep"])
    width = arrays["expert_in.weight"].shape[0]
    if event["communication"] == "direct":
        with exchange.phase("input_download"):
            rows = _rows(bytes_of(event.pop("data")), width)
        with exchange.phase("compute"):
            out = layers.expert(rows, arrays).tobytes()
        with exchange.phase("upload"):
            exchange.account.bytes_in += rows.nbytes
            exchange.account.bytes_out += len(out)
            return {"data": text_of(out)}
    if event["communication"] == "storage":
        rows = _rows(exchange.take(_key(event, "in", 0), "wait", "input_download"), width)
        with exchange.phase("compute"):
            out = layers.expert(rows, arrays).tobytes()
        with exchange.phase("upload"):
            exchange.put(_key(event, "out", 0), out)
    else:
        _pipeline(exchange, event, arrays, width)
    return {}


def _pipeline(exchange: Exchange, event: dict[str, Any], arrays: dict[str, np.ndarray], width: int) -> None:
    """Take and compute a minibatch while the result of the one before is uploaded; each step ends with both."""
    uploads: list[Future[None]] = []

    def upload(number: int, out: bytes) -> None:
        with exchange.phase("upload"):
            exchange.put(_key(event, "out", number), out)

    with ThreadPoolExecutor(1) as pool:
        for number in range(len(cuts(event["tokens"], event["minibatch_tokens"]))):
            rows = _rows(exchange.take(_key(event, "in", number), "input_download", "input_download"), width)
            with exchange.phase("compute"):
                out = layers.expert(rows, arrays).tobytes()
            for each in uploads:
                each.result()
            uploads = [pool.submit(upload, number, out)]
        for each in uploads:
            each.result()


def _rows(data: bytes, width: int) -> np.ndarray:
    import numpy as np

    return np.frombuffer(data, np.float32).reshape(-1, width + 2)


def _key(event: dict[str, Any], way: str, minibatch: int) -> str:
    return object_key(way, event["batch"], event["layer"], event["expert"], event["replica"], minibatch)

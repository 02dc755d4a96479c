"""The predictor `lstm`: the popularity of the next batches from that of the past ones.

Source: Cong et al., Prediction Is All MoE Needs (2024), who forecast the experts' load with an LSTM.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity.interface import Batch, Predictor

if TYPE_CHECKING:
    import torch

WINDOW = 8
HIDDEN = 32
EPOCHS = 200
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-3
HELD_OUT = 0.25
LEAST_GAIN = 0.1
MOST_STEPS = 512
"""Past steps that are learnt from: the last ones."""


class Lstm(Predictor):
    """An LSTM over the popularity of past batches, taken to be the ones right before those to be served.

    The profiled tokens, in their order, are cut into steps of `batch_tokens`. From the experts' shares in up to 8
    steps the LSTM (32 units, all layers of the model together) forecasts their shares in the next one. It starts
    as the mean of the past (`history`) and keeps, of 200 epochs of Adam, the state with the least error on the
    last quarter of the steps; it stays with the mean unless that is a tenth less. Token IDs are not looked at. n
    tokens to be served are n / `batch_tokens` steps after the profiled ones. On the CPU.

    Args:
        batch_tokens: of a step.
        seed: of the initial weights.
    """

    def __init__(self, batch_tokens: int = 512, seed: int = 0) -> None:
        if batch_tokens < 1:
            raise InputError(f"batch_tokens: expected at least 1, got {batch_tokens}")
        self.batch_tokens, self.seed = batch_tokens, seed

    def learn(self, trace: RoutingTrace) -> None:
        steps = min(trace.tokens // self.batch_tokens, MOST_STEPS)
        first = trace.tokens - steps * self.batch_tokens
        self._mean = trace.popularity() / (trace.tokens * trace.top_k)
        bounds = range(first, trace.tokens, self.batch_tokens)
        shares = [trace.slice(at, at + self.batch_tokens).popularity() for at in bounds]
        self._past = np.array(shares, float).reshape(steps, -1) / (self.batch_tokens * trace.top_k)
        self._model = None
        if steps >= 4:
            with _one_thread():
                self._model = _trained(self._past, self._mean, self.seed)

    def popularity(self, batch: Batch) -> np.ndarray:
        tokens = len(batch.token_id)
        whole, rest = divmod(tokens, self.batch_tokens)
        weights = np.array([self.batch_tokens] * whole + [rest] * (rest > 0), float) * self.shape.top_k
        if self._model is None:
            return self._mean * weights.sum()
        with _one_thread():
            forecast = _forecast(self._model, self._past, len(weights), self._mean.shape)
        return np.tensordot(weights, forecast, axes=1)


class _one_thread:
    """One torch thread: a small network gains nothing from more, and sums keep their order."""

    def __enter__(self) -> None:
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self._threads)


def _network(mean: np.ndarray) -> Any:
    """Windows of shares, (windows, steps, layers x experts), to log-shares of the next step, (windows, layers,
    experts); at first those of the mean."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torch.from_numpy(mean).float().reshape(-1)
            self.lstm = torch.nn.LSTM(mean.size, HIDDEN, batch_first=True)
            self.out = torch.nn.Linear(HIDDEN, mean.size)
            torch.nn.init.zeros_(self.out.weight)
            with torch.no_grad():
                self.out.bias.copy_(self.mean.clamp_min(1e-6).log())

        def forward(self, window: "torch.Tensor") -> "torch.Tensor":
            # Deviations from the mean are small beside 1: in units of an even share they are not.
            last = self.lstm((window - self.mean) * mean.shape[1])[0][:, -1]
            return self.out(last).reshape(-1, *mean.shape).log_softmax(dim=2)

    return Network()


def _trained(past: np.ndarray, mean: np.ndarray, seed: int) -> Any:
    """The network with the least error on the last steps; shares of the past, shape (steps, layers x experts)."""
    import torch

    windows, targets = _windows(past)
    held_out = max(1, round(len(windows) * HELD_OUT))
    x, y = torch.from_numpy(windows).float(), torch.from_numpy(targets).float().reshape(-1, *mean.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(mean)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, state = float("inf"), dict[str, Any]()
        for _ in range(EPOCHS + 1):
            with torch.no_grad():
                error = (network(x[-held_out:]).exp() - y[-held_out:]).abs().mean().item()
            if error < best:
                best = error if state else error * (1 - LEAST_GAIN)
                state = {name: value.clone() for name, value in network.state_dict().items()}
            optimiser.zero_grad()
            loss = -(y[:-held_out] * network(x[:-held_out])).sum(dim=2).mean()
            loss.backward()
            optimiser.step()
    network.load_state_dict(state)
    return network


def _windows(past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of steps, shape (windows, steps, ...), and the step after each."""
    length = min(WINDOW, len(past) - 2)
    windows = np.lib.stride_tricks.sliding_window_view(past[:-1], length, axis=0)
    return np.ascontiguousarray(windows.transpose(0, 2, 1)), past[length:]


def _forecast(network: Any, past: np.ndarray, steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """Shares in the steps after the past, each from the ones before it, shape (steps, layers, experts)."""
    import torch

    length = min(WINDOW, len(past) - 2)
    series = list(past[-length:])
    with torch.no_grad():
        for _ in range(steps):
            window = torch.from_numpy(np.array(series[-length:])).float()[None]
            series.append(network(window)[0].exp().double().numpy().reshape(-1))
    shares = np.array(series[length:]).reshape(steps, *shape)
    return shares / shares.sum(axis=2, keepdims=True)

"""What every predictor of expert popularity is: fitted on a profiled trace, it predicts a batch to be served."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity.table import ProfileTable


@dataclass(frozen=True)
class Batch:
    """What is known of tokens before inference.

    Attributes:
        token_id: shape (tokens,) int.
        sequence: the text sequence (prompt) that each token is in, shape (tokens,) int.
        position_id: position in its sequence, shape (tokens,) int; None where it is not known.
    """

    token_id: np.ndarray
    sequence: np.ndarray
    position_id: np.ndarray | None


@dataclass(frozen=True)
class Shape:
    """Layers, experts of a layer and experts of a token of a model."""

    layers: int
    experts: int
    top_k: int

    def __str__(self) -> str:
        return f"({self.layers}, {self.experts}, {self.top_k})"

    @staticmethod
    def of(trace: RoutingTrace) -> "Shape":
        """The shape of a trace's model."""
        return Shape(trace.layers, trace.num_experts, trace.top_k)


class Predictor(ABC):
    """A predictor of expert popularity: `fit` with the profiled trace, then `predict` each batch to be served.

    To write one, say what it learns (`learn`) and what it predicts (`popularity`); both are called with checked
    input only. `popularity` sees what is known before inference, never the served routing.
    """

    _shape: Shape | None = None

    def fit(self, trace: RoutingTrace) -> Self:
        """Learn from a profiled trace, its tokens in the order they came. Raises InputError without tokens."""
        if not trace.tokens:
            raise InputError("profile: expected at least one token, got an empty routing trace")
        self._shape = Shape.of(trace)
        self.learn(trace)
        return self

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        """Predicted popularity d[e, i] of tokens to be served. What was predicted before does not matter.

        Args:
            token_ids: shape (tokens,) int.
            served: the trace of these tokens. Its sequences and position IDs are known before inference; its
                routing only `oracle` may look at. None: the tokens are one sequence, their positions not known.

        Returns:
            tokens of each expert, shape (layers, experts) float; rows sum to tokens x top-k.

        Raises:
            InputError: not fitted; `served` is of other tokens, layers, experts or top-k.
        """
        shape, token_ids = self.shape, np.asarray(token_ids, np.int64)
        if served is None:
            batch = Batch(token_ids, np.zeros_like(token_ids), None)
        else:
            self._check(token_ids, served)
            batch = Batch(token_ids, served.sequence, served.position_id)
        if not len(token_ids):
            return np.zeros((shape.layers, shape.experts))
        return self.popularity(batch)

    @abstractmethod
    def learn(self, trace: RoutingTrace) -> None:
        """Learn from a trace that has tokens; called by `fit`, `shape` is known."""

    @abstractmethod
    def popularity(self, batch: Batch) -> np.ndarray:
        """d[e, i] of a batch that has tokens, shape (layers, experts); called by `predict`."""

    @property
    def shape(self) -> Shape:
        """Of the model that was profiled. Raises InputError before `fit`."""
        if self._shape is None:
            raise InputError("predictor: expected fit() before predict()")
        return self._shape

    def _check(self, token_ids: np.ndarray, served: RoutingTrace) -> None:
        if Shape.of(served) != self.shape:
            raise InputError(
                f"served: expected {self.shape} layers, experts and top-k as profiled, got {Shape.of(served)}"
            )
        if not np.array_equal(served.token_id, token_ids):
            raise InputError("served: expected the trace of the given token IDs, got one of others")


class TablePredictor(Predictor):
    """A predictor that a profile table is enough for: of a trace, of a file, merged or tuned."""

    _table: ProfileTable | None = None

    @property
    def table(self) -> ProfileTable:
        """The profile table that it was fitted with. Raises InputError before `fit`."""
        if self._table is None:
            raise InputError("predictor: expected fit() before predict()")
        return self._table

    def fit_table(self, table: ProfileTable) -> Self:
        """Learn from a profile table. Raises InputError when it has no counts."""
        if not table.count.sum() > 0:
            raise InputError("profile: expected at least one token, got an empty profile table")
        self._shape = Shape(table.layers, table.experts, table.top_k)
        self._table = table
        self.learn_table(table)
        return self

    def learn(self, trace: RoutingTrace) -> None:
        self.fit_table(ProfileTable.from_trace(trace))

    @abstractmethod
    def learn_table(self, table: ProfileTable) -> None:
        """Learn from a table that has counts; called by `fit_table`, `shape` is known."""


class History(TablePredictor):
    """The mean popularity of the profiled tokens (FlexMoE, Prophet), scaled to the tokens to be served."""

    def learn_table(self, table: ProfileTable) -> None:
        counts = table.expert_counts()
        layers = counts.sum(axis=1, keepdims=True)
        even = np.full_like(counts, 1 / table.experts)
        self._share = np.divide(counts, layers, out=even, where=layers > 0)

    def popularity(self, batch: Batch) -> np.ndarray:
        return self._share * (len(batch.token_id) * self.shape.top_k)


class Uniform(TablePredictor):
    """All experts of a layer alike: tokens x top-k / experts."""

    def learn_table(self, table: ProfileTable) -> None:
        """Nothing but the model's shape is needed."""

    def popularity(self, batch: Batch) -> np.ndarray:
        share = len(batch.token_id) * self.shape.top_k / self.shape.experts
        return np.full((self.shape.layers, self.shape.experts), share)


class Oracle(Uniform):
    """The real popularity, of the trace of the very tokens to be served."""

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        if served is None:
            raise InputError("oracle: expected the trace of the tokens to be served")
        self._check(np.asarray(token_ids), served)
        return served.popularity().astype(float)

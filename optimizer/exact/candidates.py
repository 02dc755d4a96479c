"""The deployments of a layer's experts that are looked at: all, or those that can be of use in some labels."""

from dataclasses import dataclass, replace

import numpy as np

from optimizer import cost_model
from optimizer.cost_model import Deployments
from simulator.plan import MB, ProblemLayer, ProblemPlatform, needed_memory_bytes, payload_bytes


@dataclass(frozen=True)
class Window:
    """Which deployments and labels are looked at, and what is known of the labels that are not.

    Attributes:
        place: the deployments, rising indices in the flat order (experts, sizes, replicas); None: all.
        from_s: labels whose experts are all done before that are left out.
        early_cost, early_latency_s: what the labels left out cost and take at least; an infinite cost: none is.
    """

    place: np.ndarray | None = None
    from_s: float = 0.0
    early_cost: float = np.inf
    early_latency_s: float = 0.0


@dataclass(frozen=True)
class Candidates:
    """Deployments of the experts of one layer, of which each expert takes one; arrays broadcast to `shape`:
    (experts, sizes, replicas), or (deployments,) for some of them.

    Attributes:
        shape: see above.
        begin: where each expert's deployments begin, in the flat order, shape (experts,).
        x: the deployments.
        r: tokens of a replica.
        count: experts that each stands for.
        fits, payload_fits: whether memory (12c), and memory and payload (12f), hold.
    """

    shape: tuple[int, ...]
    begin: np.ndarray
    x: Deployments
    r: np.ndarray
    count: np.ndarray
    fits: np.ndarray
    payload_fits: np.ndarray

    @staticmethod
    def every(platform: ProblemPlatform, layer: ProblemLayer, count: np.ndarray) -> "Candidates":
        """All deployments of the layer's experts, each of which stands for `count` alike, shape (experts,)."""
        x = cost_model.all_deployments(platform, layer)
        shape = (len(layer.experts), len(platform.memory_mb), platform.max_replicas)
        r = np.broadcast_to(x.replica_tokens, (shape[0], 1, shape[2]))
        fits = needed_memory_bytes(layer, r) <= x.memory_mb * MB
        payload = payload_bytes(layer, platform, r)
        return Candidates(
            shape=shape,
            begin=np.arange(shape[0]) * (shape[1] * shape[2]),
            x=x,
            r=r,
            count=count.reshape(-1, 1, 1),
            fits=fits,
            payload_fits=fits & (payload <= platform.payload_limit_bytes),
        )

    @property
    def size(self) -> int:
        """Deployments of all experts."""
        return int(np.prod(self.shape))

    def take(self, place: np.ndarray) -> "Candidates":
        """Some of all deployments, by rising index in the flat order; at least one of each expert."""
        at = np.unravel_index(place, self.shape)

        def some(values: np.ndarray) -> np.ndarray:
            """Of an array that broadcasts, by index along the axes that it has."""
            own = [(k, size) for k, size in enumerate(values.shape) if size > 1]
            if not own:
                return np.full(place.shape, values.item())
            axes, sizes = zip(*own, strict=True)
            taken: np.ndarray = values.ravel().take(
                at[axes[0]] if len(axes) == 1 else np.ravel_multi_index([at[k] for k in axes], sizes)
            )
            return taken

        return Candidates(
            shape=place.shape,
            begin=np.searchsorted(place, self.begin),
            x=replace(
                self.x,
                tokens=some(self.x.tokens),
                parameter_bytes=some(self.x.parameter_bytes),
                replicas=some(self.x.replicas),
                memory_mb=some(self.x.memory_mb),
                storage_bandwidth=some(self.x.storage_bandwidth),
                seconds_per_token=some(self.x.seconds_per_token),
                seconds_per_call=some(self.x.seconds_per_call),
            ),
            r=some(self.r),
            count=some(self.count),
            fits=some(self.fits),
            payload_fits=some(self.payload_fits),
        )

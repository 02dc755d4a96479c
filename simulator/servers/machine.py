"""A machine's time for a forward pass: the roofline of its arithmetic and its memory.

Source: Williams, Waterman, Patterson, Roofline, CACM 2009; the shares of the peak that whole models get are fitted
to measured rows (`simulator.profiles.contenders.Servers`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.profiles.contenders import Processor, Servers
from simulator.profiles.instances import Instance
from simulator.servers.work import Work

GIB = 2**30


@dataclass(frozen=True)
class Roofline:
    """Arithmetic and memory of a machine.

    Attributes:
        flops_per_s, memory_bytes_per_s: what it gets of both.
        overlaps: whether weights are read while others are multiplied; the slower of both decides.
    """

    flops_per_s: float
    memory_bytes_per_s: float
    overlaps: bool = True

    def seconds(self, flops: float | np.ndarray, bytes_read: float | np.ndarray) -> float | np.ndarray:
        """Time of so much arithmetic on so many bytes."""
        arithmetic, memory = flops / self.flops_per_s, bytes_read / self.memory_bytes_per_s
        return np.maximum(arithmetic, memory) if self.overlaps else arithmetic + memory


@dataclass(frozen=True)
class Machine:
    """A server with a whole copy of a model.

    Attributes:
        name: of the instance. vcpus, memory_bytes: for the model, of its GPUs if it has any. usd_per_hour: rent.
        encode, generate: its roofline, of passes over whole sequences and of generation.
        step_s: of a forward pass besides. start_s: of a machine, its weights included.
        most_sequences: generated side by side. room_bytes: what weights leave for keys and values.
    """

    name: str
    work: Work
    usd_per_hour: float
    memory_bytes: float
    encode: Roofline
    generate: Roofline
    step_s: float
    start_s: float
    most_sequences: int
    room_bytes: float

    def pass_s(self, tokens: float | np.ndarray, sequences: float | np.ndarray = 1.0) -> float | np.ndarray:
        """Time of a forward pass over so many sequences of `tokens` each, s."""
        roofline = self.generate if self.work.spec.generates else self.encode
        flops = sequences * self.work.pass_flops(tokens)
        return self.step_s + roofline.seconds(flops, self.work.bytes_read(sequences * tokens))

    def token_s(self, sequences: float | np.ndarray, context: float | np.ndarray) -> float | np.ndarray:
        """Time of a generated token of so many sequences side by side, after `context` others each, s."""
        kept = sequences * context * self.work.kv_bytes_per_token
        flops = sequences * self.work.step_flops(context)
        return self.step_s + self.generate.seconds(flops, self.work.bytes_read(sequences) + kept)

    def at_once(self, tokens: float) -> int:
        """Sequences of so many tokens, in and out, that are generated side by side."""
        if not self.work.spec.generates:
            return self.most_sequences
        return int(min(self.most_sequences, self.room_bytes // (tokens * self.work.kv_bytes_per_token)))


def machines(servers: Servers, work: Work, instances: list[Instance]) -> list[Machine]:
    """The machines of a contender that have room for the weights, cheapest first.

    Args:
        instances: of the catalogue, that it may rent; those without one have `servers.rent.sizes`.
    """
    found = [_rented(servers, work, each) for each in instances] or _by_size(servers, work)
    return sorted((each for each in found if each.room_bytes > 0), key=lambda each: each.usd_per_hour)


def _rented(servers: Servers, work: Work, instance: Instance) -> Machine:
    """A machine of the catalogue; all its GPUs work together."""
    if instance.gpus:
        processor, units = servers.processors[instance.gpu], instance.gpus
        memory = instance.gpus * instance.gpu_memory_bytes
    else:
        processor = next(each for each in servers.processors.values() if instance.family in each.families)
        units, memory = instance.vcpus, instance.memory_bytes
    markup = 1.0 if servers.rent.markup is None else servers.rent.markup.median
    usd = instance.usd_per_hour * markup
    return _machine(servers, work, instance.name, processor, units, memory, usd, instance.network_bytes_per_s)


def _by_size(servers: Servers, work: Work) -> list[Machine]:
    """Machines by the vCPU and GB."""
    rent, (processor,) = servers.rent, servers.processors.values()
    assert rent.vcpu_hour is not None
    assert rent.gb_hour is not None
    found = []
    for vcpus, gbs in rent.sizes.items():
        for gb in gbs:
            usd = vcpus * rent.vcpu_hour.median + gb * rent.gb_hour.median
            found.append(
                _machine(servers, work, size_name(vcpus, gb), processor, vcpus, gb * GIB, usd, NETWORK_BYTES_PER_S)
            )
    return found


def size_name(vcpus: int, gb: int) -> str:
    """Of a machine by the vCPU and GB."""
    return f"{vcpus} vCPU, {gb} GB"


NETWORK_BYTES_PER_S = 625e6 / 8
"""Of a small machine that does not say its own: the baseline of a c6i.large, 781 Mbit/s, less TLS."""


def _machine(
    servers: Servers,
    work: Work,
    name: str,
    processor: Processor,
    units: int,
    memory_bytes: float,
    usd_per_hour: float,
    network_bytes_per_s: float,
) -> Machine:
    if servers.most_memory is not None:
        memory_bytes = min(memory_bytes, servers.most_memory.median)
    bandwidth = units * processor.memory_bytes_per_s.median
    peak = units * processor.flops_per_s(work.spec.precision)
    return Machine(
        name,
        work,
        usd_per_hour,
        memory_bytes,
        Roofline(peak * servers.encode.median, bandwidth),
        Roofline(peak * servers.generate.median, bandwidth),
        servers.step_s.median,
        servers.start_s.median + work.parameter_bytes / network_bytes_per_s,
        int(servers.most_sequences.median),
        memory_bytes * servers.memory_share.median - work.parameter_bytes,
    )

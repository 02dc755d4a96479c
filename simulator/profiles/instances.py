"""The catalogue of EC2 instances: vCPUs, memory, network, GPUs and the price of an hour on demand.

Facts with source and date at the top of `instances.csv`; of current families for which a processor's rates are
known (`contenders`).
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources

from moe.errors import InputError, nearest, shortened

MIB = 2**20
PRICES_OF = "2026-07-20"


@dataclass(frozen=True)
class Instance:
    """One size of machine.

    Attributes:
        vcpus, memory_bytes, gpus, gpu_memory_bytes: of the machine; the last of one GPU.
        network_bytes_per_s: its baseline. gpu: name of its kind, "" for none. usd_per_hour: on demand, Linux.
    """

    name: str
    vcpus: int
    memory_bytes: float
    architecture: str
    network_bytes_per_s: float
    gpu: str
    gpus: int
    gpu_memory_bytes: float
    usd_per_hour: float

    @property
    def family(self) -> str:
        """`c8g` of `c8g.large`."""
        return self.name.split(".")[0]


@functools.cache
def catalogue() -> dict[str, Instance]:
    """Every instance by its name."""
    text = (resources.files("simulator") / "profiles" / "instances.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["instance"]: _instance(row) for row in rows}


def _instance(row: dict[str, str]) -> Instance:
    return Instance(
        row["instance"],
        int(row["vcpus"]),
        float(row["memory_mib"]) * MIB,
        row["architecture"],
        float(row["network_mbps"]) * 1e6 / 8,
        row["gpu"],
        int(row["gpus"] or 0),
        float(row["gpu_memory_mib"] or 0) * MIB,
        float(row["usd_per_hour"]),
    )


def instance_named(name: str) -> Instance:
    """One of the catalogue. Raises InputError, with the nearest name."""
    known = catalogue()
    if name not in known:
        raise InputError(f"instance: no {shortened(name)} in the catalogue{nearest(name, known)}")
    return known[name]

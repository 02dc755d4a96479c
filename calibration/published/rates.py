"""Arithmetic and reading weights, absolutely: what others measured on Lambda, and on processors like its own.

Rates are of what their sources ran; an expert's fp32 work is derived from them, and held against them, by two
factors: fp32 over fp64, and an expert over one large product of matrices.
Of each file: what it gives a profile (`_fit`), and what is held against a profile (`_check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.check import probes
from calibration.check.checks import Data, Measured, scatter
from calibration.fitting.bootstrap import Confidence, Quantity
from calibration.fitting.laws import Level
from calibration.tables import Origin
from moe.spec import MoESpec
from simulator.cloud.phases import Compute
from simulator.profiles.closed_form import expert_seconds, transformer_seconds
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import Keys, with_constant
from simulator.serving.cluster import run_on_cluster

if TYPE_CHECKING:
    import pandas as pd

G = 1e9
FP32_OVER_FP64 = 2.0  # twice as many in a register; measured 2.0-2.1 with OpenBLAS
EXPERT_OVER_PRODUCT = 0.78
EXPERT_RANGE = (0.62, 0.85)
"""An expert's rate over a large product's: experts of 384 x 1,536 and 768 x 3,072 with GELU, 128 to 2,560 tokens,
in torch over a product of 2,048 x 2,048 x 2,048 in OpenBLAS, one thread of an EPYC: 0.62-0.84, 2026-11."""
BERT = {"BERT-base": (12, 768), "BERT-large": (24, 1024)}
"""Blocks and hidden width; the MLP is four times as wide."""
LLAMA_BYTES, LLAMA_PARAMETERS = 5.06e9, 6.74e9  # LLaMA-7B, q5_1
LARGE = 128  # tokens of a call from which on it is arithmetic that takes the time


# -- rows -------------------------------------------------------------------------------------------------


def _products(table: pd.DataFrame) -> pd.DataFrame:
    """Large products of matrices on Lambda, x86."""
    of_lambda = table.platform.str.startswith("AWS Lambda") & table.architecture.str.startswith("x86")
    return table[of_lambda & (table.regime == "large GEMM")]


def _bert(table: pd.DataFrame) -> pd.DataFrame:
    """Whole BERT in eager PyTorch, one sequence a call, on EC2 c6i."""
    rows = table[table.platform.str.startswith("EC2 c6i") & table.model.isin(list(BERT))]
    return rows.assign(tokens=rows.tokens_per_call.astype(float)).sort_values(["model", "tokens"])


def _embedder(table: pd.DataFrame, framework: str, precision: str) -> pd.DataFrame:
    """A small encoder over many sentences on 16 vCPUs of Cascade Lake."""
    rows = table[table.platform.str.startswith("GCP") & table.framework.str.startswith(framework)]
    return rows[rows.precision == precision]


def _expert_rate(rows: pd.DataFrame, over_product: float = EXPERT_OVER_PRODUCT) -> np.ndarray:
    """FLOP/s of a vCPU in an expert's fp32 work, of products of matrices; shape (rows,)."""
    fp32 = np.where(rows.precision == "fp64", FP32_OVER_FP64, 1.0)
    return rows.gflops_per_vcpu.to_numpy(float) * G * fp32 * over_product


def _block_bytes(model: str) -> float:
    """Weights of BERT's blocks, fp32."""
    layers, hidden = BERT[model]
    return 4.0 * layers * 12 * hidden**2


def _read_rates(rows: pd.DataFrame) -> list[float]:
    """bytes/s at which each model's weights are read: what its two shortest calls take beyond their tokens."""
    found = []
    for model, calls in rows.groupby("model"):
        (n_0, t_0), (n_1, t_1) = calls[["tokens", "seconds"]].to_numpy(float)[:2]
        found.append(_block_bytes(str(model)) / (t_0 - n_0 * (t_1 - t_0) / (n_1 - n_0)))
    return found


# -- what they give ---------------------------------------------------------------------------------------


def rates_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Arithmetic of experts and of whole transformers, weights read, arm64, int8; rows bound each value.

    Not from these, so kept: the exponent of several vCPUs, a vCPU's own bandwidth, Graviton3, bf16, core_speed.
    """
    products, bert = _products(table), _bert(table)
    vcpu = profile.compute.flops_per_vcpu.median
    if len(products):
        low, high = (_expert_rate(products, each) for each in EXPERT_RANGE)
        yield _quantity(
            ("compute", "flops_per_vcpu"),
            "FLOP/s",
            [_expert_rate(rows) for _, rows in products.groupby(products.source.str.split().str[0])],
            (low.min(), high.max()),
            origin,
            products.date,
            "fp64 products of matrices on Lambda (Lithops, hyperflow), times 2 for fp32, times 0.78 for an expert",
        )
    large, torch = bert[bert.tokens >= LARGE], _embedder(table, "sentence", "fp32")
    if len(large) and len(torch):
        core = profile.cluster.core_speed.median * vcpu
        yield _quantity(
            ("compute", "transformer_speed"),
            "1",
            [rows.gflops_per_vcpu.to_numpy(float) * G / core for _, rows in large.groupby("model")],
            (torch.gflops_per_vcpu.min() * G / vcpu, large.gflops_per_vcpu.max() * G / vcpu),
            origin,
            large.date,
            "whole BERT in eager PyTorch on EC2 c6i, 128-512 tokens, over core_speed; bounds: Cascade Lake, c6i",
        )
    llama = table[table.regime == "decode"]
    if len(bert) and len(llama):
        read = [np.array(_read_rates(bert)), LLAMA_BYTES / llama.seconds.to_numpy(float)]
        yield _quantity(
            ("compute", "weight_bandwidth_per_function"),
            "bytes/s",
            read,
            (min(each.min() for each in read), max(each.max() for each in read)),
            origin,
            [*bert.date, *llama.date],
            "weights of BERT on EC2 c6i.2xlarge beyond its tokens, and of LLaMA-7B for a token on 10,240 MB",
        )
    yield from _ratios(table, origin, profile)


def _ratios(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Graviton2 over x86_64, and int8 over fp32."""
    graviton2 = table[table.architecture.str.contains("Graviton2") & (table.regime == "large GEMM")]
    vcpu = profile.compute.flops_per_vcpu.median
    if len(graviton2) and "graviton2" in profile.compute.arm64:
        low, high = (_expert_rate(graviton2, each) / vcpu for each in EXPERT_RANGE)
        yield _quantity(
            ("compute", "arm64", "graviton2", "speed"),
            "1",
            [_expert_rate(graviton2) / vcpu],
            (low.min(), high.max()),
            origin,
            graviton2.date,
            "fp32 products of matrices on EC2 c6g, times 0.78 for an expert, over flops_per_vcpu",
        )
    int8, fp32 = (_embedder(table, "ONNX", precision) for precision in ("int8", "fp32"))
    if len(int8) and len(fp32):
        yield _quantity(
            ("compute", "int8_speed"),
            "1",
            [int8.gflops_per_vcpu.to_numpy(float) / fp32.gflops_per_vcpu.median()],
            None,
            origin,
            int8.date,
            "infinity, bge-small in ONNX Runtime on Cascade Lake (VNNI), int8 over fp32",
        )


def efficiency_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Share of its cores that a whole server's throughput keeps: more cores, or a promised latency."""
    counted = table.system.str.extract(r"\((\d+) cores\)")[0].astype(float)
    cores = table.assign(cores=counted).dropna(subset="cores")
    shares = []
    for _, rows in cores.groupby("benchmark"):
        offline = rows[rows.scenario == "Offline"].sort_values("cores")
        if len(offline) > 1:
            per_core = (offline.result / offline.cores).to_numpy(float)
            shares.append(min(1.0, per_core[-1] / per_core[0]))
            served = rows[(rows.scenario == "Server") & (rows.cores == offline.cores.iloc[-1])]
            shares += (served.result / float(offline.result.iloc[-1])).tolist()
    if shares:
        yield _quantity(
            ("cluster", "efficiency"),
            "1",
            [np.array(shares)],
            (min(shares), max(shares)),
            origin,
            [],
            "MLPerf Inference, CPUs: throughput a core of more cores over fewer, and with a promised latency",
        )


def _quantity(
    path: Keys,
    unit: str,
    runs: list[np.ndarray],
    between: tuple[float, float] | None,
    origin: Origin,
    dates: Iterable[object],
    source: str,
) -> Quantity:
    """A level that a handful of others' values bound, as of the last of their dates."""
    date = max((str(day)[:7] for day in dates), default=origin.date)
    most: Confidence = "medium" if path[-1] == "flops_per_vcpu" else "low"
    labels = "source", f"{'.'.join(path)}, {unit}"
    return Quantity(
        path, unit, Level(), runs, replace(origin, date=date), source, *labels, most=most, between=between
    )


# -- what is held against a profile -----------------------------------------------------------------------


def rates_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Every row of Lambda, or of a processor like its own. Not held: GPUs, AMX and cores that Lambda has not."""
    yield from _products_check(table, profile)
    yield from _images_check(table, profile)
    yield from _decode_check(table, profile)
    yield from _bert_check(table, profile)
    yield from _others_check(table, profile)


def _row(
    row: Any, quantity: str, simulated: float, data: Data, known: str, spread: float | None = None
) -> Measured:
    """A rate per vCPU or core beside the profile's, GFLOP/s."""
    return Measured(quantity, "GFLOP/s", row.gflops_per_vcpu, simulated / G, spread, known, data, _source(row))


def _source(row: Any) -> str:
    return f"{row.source.split(',')[0]}, {row.date}"


def _expert_simulated(profile: PlatformProfile, memory_mb: int) -> float:
    """FLOP/s of a function in an expert's fp32 work."""
    return float(G / np.median(probes.seconds_at_once(profile, memory_mb, Compute(flops=G))))


def product_rate(profile: PlatformProfile, memory_mb: int, precision: str) -> float:
    """FLOP/s of a simulated function in large products of matrices, fp32 or fp64."""
    fp32 = FP32_OVER_FP64 if precision == "fp64" else 1.0
    return _expert_simulated(profile, memory_mb) / EXPERT_OVER_PRODUCT / fp32


def _products_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    products = _products(table)
    spread = scatter(_expert_rate(products))
    for row in products.itertuples():
        rate = product_rate(profile, int(row.memory_mb), row.precision) / row.vcpu
        quantity = f"{row.precision} product, {row.source.split(',')[0]}, at {row.memory_mb:,.0f} MB, per vCPU"
        yield _row(row, quantity, rate, "fitted", f"{len(products)} rows", spread)


def _images_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Images of 2020: held out of the fit, since guests of Lambda had neither AVX2 nor FMA then."""
    for row in table[table.regime == "batch 1 conv"].itertuples():
        quantity = f"{row.model}, {row.framework}, at {row.memory_mb:,.0f} MB, per vCPU"
        rate = _expert_simulated(profile, int(row.memory_mb)) / row.vcpu
        yield _row(row, quantity, rate, "of its time", "guests without AVX2 and FMA")


def _decode_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    for row in table[table.regime == "decode"].itertuples():
        package = next(
            name for name, each in profile.start.packages.items() if each.architecture == row.architecture
        )
        there = profile.model_copy(update={"start": profile.start.model_copy(update={"package": package})})
        read_s, work_s = expert_seconds(there, [int(row.memory_mb)], LLAMA_BYTES, 2 * LLAMA_PARAMETERS)
        yield Measured(
            f"{row.model}, a token at {row.memory_mb:,.0f} MB, {row.architecture}",
            "s",
            row.seconds,
            float(read_s[0] + work_s[0]),
            None,
            "one run; memory not stated",
            "same runs",
            _source(row),
        )


def _bert_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Whole passes on as many of the cluster's cores as the instance has vCPUs, with their share of its memory."""
    for row in _bert(table).itertuples():
        (layers, hidden), tokens = BERT[str(row.model)], int(row.tokens)
        share = row.vcpu / profile.cluster.cores.median
        cluster = with_constant(profile, ("cluster", "cores"), float(row.vcpu))
        memory = profile.cluster.memory_bytes_per_s.median * share
        cluster = with_constant(cluster, ("cluster", "memory_bytes_per_s"), memory)
        sizes = {"moe_layers": layers, "hidden": hidden, "expert_ffn": 4 * hidden, "sequence_tokens": tokens}
        spec = MoESpec(name=row.model, source=row.source, experts=1, vocabulary=1, **sizes)
        run = run_on_cluster(spec, np.full((layers, 1), tokens), tokens, cluster)
        yield Measured(
            f"{row.model} of {tokens} tokens on {row.vcpu:.0f} cores",
            "s",
            row.seconds,
            run.latency_s,
            None,
            "mean of many calls; hyperthreads with AVX-512",
            "fitted" if tokens >= LARGE else "same runs",
            _source(row),
        )


def _others_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Processors like those of Lambda, and a core like the cluster's, by their large products."""
    compute = profile.compute
    vcpu = compute.flops_per_vcpu.median
    transformer = G / transformer_seconds(profile, round(compute.mb_per_vcpu.median), G)
    for framework, precision in (("ONNX", "fp32"), ("ONNX", "int8"), ("sentence", "fp32")):
        factor = compute.int8_speed.median if precision == "int8" else 1.0
        for row in _embedder(table, framework, precision).itertuples():
            known = "one machine, hyperthreads of Cascade Lake"
            quantity = f"{row.model}, {row.framework}, {precision}, per vCPU"
            yield _row(row, quantity, transformer * factor, "same runs", known)
    for name, generation in compute.arm64.items():
        of_it = table.architecture.str.endswith(name.capitalize())
        for row in table[of_it & table.model.str.startswith("GEMM")].itertuples():
            fp32 = FP32_OVER_FP64 if row.precision == "fp64" else 1.0
            rate = vcpu * generation.speed.median / EXPERT_OVER_PRODUCT / fp32
            large = row.regime == "large GEMM"
            known = "one machine" if large else "one core; a small product is slower than a large one"
            yield _row(row, f"{row.model}, {row.platform}, per vCPU", rate, "fitted" if large else "unseen", known)
    for row in table[table.platform.str.startswith("EPYC")].itertuples():
        rate = vcpu * profile.cluster.core_speed.median / EXPERT_OVER_PRODUCT
        yield _row(row, f"{row.model}, {row.platform}, per core", rate, "unseen", "one core, the others idle")

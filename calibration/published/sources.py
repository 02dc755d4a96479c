"""Where the files of public measurements come from, and how an outsider gets them (docs/calibration.md)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

from moe.errors import InputError, PlatformError
from moe.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

GITHUB = "https://github.com/"
FETCHED = "sources"  # folder of the repositories' own files, beside the tables
REGION = "us-east-1"
Table: TypeAlias = "Callable[[list[Path]], pd.DataFrame]"


@dataclass(frozen=True)
class Source:
    """Where a file of the data folder comes from.

    Attributes:
        file: its name. repository: owner and name on GitHub. commit: of the measurements. paths: what the file was
            made of, in the repository: files, or folders with all in them; none: too large to fetch.
        licence: the repository's; `none`: its numbers are facts to cite, its files are not to be passed on.
        table: makes the file of those; None: the page says what its columns are.
    """

    file: str
    repository: str
    commit: str
    paths: tuple[str, ...]
    licence: str
    table: Table | None = None


def warm_containers(files: list[Path]) -> pd.DataFrame:
    """SeBS' counts of warm containers, a row for each number of instances and idle time."""
    import pandas as pd

    rows = pd.concat([pd.read_csv(file) for file in files])
    by = {
        "Memory": "memory_mb",
        "FunctionTime": "function_time_s",
        "Invocations": "initial_invocations",
        "DeltaT": "idle_delta_s",
    }
    counts = rows.rename(columns=by).groupby([*by.values()]).WarmContainers
    table = counts.agg(
        n_repetitions="size", **{f"warm_containers_{name}": name for name in ("mean", "min", "max")}
    )
    table = table.reset_index()
    table.insert(0, "function", "aws_python_sleep_1")
    return table.assign(warm_fraction_mean=table.warm_containers_mean / table.initial_invocations)


def on_demand_prices(files: list[Path]) -> pd.DataFrame:
    """Karpenter's generated price list: EC2 on demand, Linux, of one region."""
    import pandas as pd

    text = "".join(file.read_text(encoding="utf-8") for file in files)
    region = re.search(rf'"{REGION}": \{{(.*?)\}}', text, re.DOTALL)
    found = re.findall(r'"([\w.-]+)": ([\d.]+)', region.group(1) if region else "")
    prices = [float(price) for _, price in found]
    return pd.DataFrame(
        {
            "instance_type": [name for name, _ in found],
            f"usd_per_hour_linux_ondemand_{REGION.replace('-', '_')}": prices,
        }
    )


_MAXDAY = ("maxday/lambda-perf", "6070b794", ("data",), "Apache-2.0")
_SKYRISE_S3 = ("resources/benchmark/measurement/storage_latency/s3", "script/benchmark/experiment/measurements")
_SKYRISE_NETWORK = (
    "resources/benchmark/measurement/network_throughput/lambda",
    "script/benchmark/experiment/network_experiments_data",
)
_SEBS = "spcl/serverless-benchmarks-artifact", "22e8134c"
SOURCES = (
    Source("coldstart_maxday_raw_2026.csv", *_MAXDAY),
    Source("coldstart_maxday_daily_2026.csv", *_MAXDAY),
    Source("coldstart_maxday_history_python_x86_zip.csv", *_MAXDAY),
    Source(
        "fourtheorem_init_by_memory_2023.csv",
        "fourTheorem/lambda-datasci-perf",
        "5604b9a7",
        ("README.md", "cold_start_viz.ipynb"),
        "MIT",
    ),
    Source(
        "sebs_container_eviction_2020.csv",
        *_SEBS,
        ("analysis/container_eviction/results_aws_python_sleep_1_128_128_1.csv",),
        "none",
        warm_containers,
    ),
    Source("sebs_aws_s3_by_memory_2020.csv", *_SEBS, ("data/performance/aws_perf_cost",), "none"),
    Source("skyrise_s3_latency_raw_sample_2024.csv", "hpides/skyrise", "37fbfdcf", _SKYRISE_S3, "MIT"),
    Source("skyrise_s3_latency_from_lambda_2024.csv", "hpides/skyrise", "37fbfdcf", _SKYRISE_S3, "MIT"),
    Source(
        "skyrise_storage_aggregate_2024.csv",
        "hpides/skyrise",
        "37fbfdcf",
        ("resources/benchmark", "script/benchmark"),
        "MIT",
    ),
    Source("skyrise_lambda_network_intervals.csv", "hpides/skyrise", "37fbfdcf", _SKYRISE_NETWORK, "MIT"),
    Source("skyrise_lambda_network_per_function.csv", "hpides/skyrise", "37fbfdcf", _SKYRISE_NETWORK, "MIT"),
    Source(
        "s3_ec2_c5.4xlarge_dvassallo_2019.csv",
        "dvassallo/s3-benchmark",
        "aebfe8e0",
        ("Analysis of S3 Performance from EC2.xlsx",),
        "MIT",
    ),
    Source(
        "lambda_memory_scaling_cebert_2025.csv",
        "cebert/aws-lambda-performance-benchmarks",
        "c8c9c663",
        ("published-results/december-2025/tables",),
        "MIT",
    ),
    Source("lambda_vcpu_tiers.csv", "rwnx/lambda-cpuinfo", "56eb7b0e", ("README.md",), "none"),
    Source(
        "lambda_linpack_gflops_by_memory_2017.csv",
        "kfigiela/cloud-functions",
        "2583703b",
        ("data/dump-2017-10-30", "data/dump-2018-03-10"),
        "none",
    ),
    Source(
        "lambda_network_sjakthol_2024.csv",
        "sjakthol/aws-network-benchmark",
        "b355d4fc",
        ("analysis/2024/results-lambda.ipynb",),
        "MIT",
    ),
    Source(
        "compute_rates.csv",
        "lithops-cloud/applications",
        "5fff92d",
        ("benchmarks/flops/aws_lambda/100_flops.pickle", "benchmarks/flops/aws_lambda/1000_flops.pickle"),
        "facts",
    ),
    Source("mlperf_inference_single_node.csv", "mlcommons/inference_results_v4.1", "198fc467", (), "Apache-2.0"),
    Source(
        "pacslab_slapp_function_duration_by_memory_2020.csv",
        "pacslab/SLApp-PerfCost-MdlOpt",
        "4173c982",
        ("evaluations/alg", "evaluations/model"),
        "MIT",
    ),
    Source("stellar_aws_scalars_2021.csv", "vhive-serverless/STeLLAR", "6e253425", ("README.md",), "MIT"),
    Source(
        "ec2_ondemand_prices_us-east-1_2026-07.csv",
        "aws/karpenter-provider-aws",
        "1d927085",
        ("pkg/providers/pricing/zz_generated.pricing_aws.go",),
        "Apache-2.0",
        on_demand_prices,
    ),
)


def fetch(folder: Path, sources: Sequence[Source] = SOURCES, host: str = GITHUB) -> Iterator[str]:
    """Get what the sources name, by git, into `sources/` of a folder; a line for each file of the folder.

    What is there already is not fetched again, and a table that is there is not changed. Nothing is asked of AWS.

    Args:
        folder: of public measurements; made where it is not there.
        host: what comes before owner and name of a repository.

    Raises PlatformError without git or a network, InputError where a repository lacks what it is to have.
    """
    for source in sources:
        mine = folder / FETCHED / source.repository
        if missing := [path for path in source.paths if not (mine / path).exists()]:
            _check_out(f"{host}{source.repository}", source, missing, mine)
        files = [path for path in (mine / each for each in source.paths) if path.exists()]
        table = folder / source.file
        if table.exists():
            yield f"{source.file}: is there; {mine} has what it was made of"
        elif not source.paths:
            yield f"{source.file}: not fetched; {host}{source.repository} at {source.commit} (docs/calibration.md)"
        elif source.table is None:
            yield f"{source.file}: to be made of {mine} (columns: docs/calibration.md)"
        else:
            write_whole(table, source.table(files).to_csv(index=False))
            yield f"{source.file}: made of {mine}"


def _check_out(url: str, source: Source, paths: list[str], into: Path) -> None:
    """Some paths of a commit, at least one of which has to be there."""
    with TemporaryDirectory() as clone:
        _git("clone", "--quiet", "--filter=blob:none", "--no-checkout", url, clone)
        there = [path for path in paths if _git("-C", clone, "ls-tree", source.commit, "--", path)]
        if not there and not any((into / path).exists() for path in source.paths):
            raise InputError(f"{url}: commit {source.commit} has none of {', '.join(paths)}")
        into.mkdir(parents=True, exist_ok=True)
        if there:
            _git("-C", clone, f"--work-tree={into.resolve()}", "checkout", "--quiet", source.commit, "--", *there)


def _git(*arguments: str) -> str:
    """What git says. Raises PlatformError, in one line."""
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=quiet, check=False)
    except FileNotFoundError:
        raise PlatformError(
            "--fetch: git is not installed; docs/calibration.md says where the files are"
        ) from None
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise PlatformError(
            f"--fetch: git {arguments[0]} {arguments[-2] if arguments[0] == 'clone' else ''}: {last}"
        )
    return done.stdout

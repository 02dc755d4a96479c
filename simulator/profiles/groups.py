"""The groups of constants of a platform profile: what each holds, with its unit."""

from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from moe.errors import nearest, shortened
from moe.files import FileModel
from simulator.profiles.constant import (
    USD,
    AtLeastOne,
    Bytes,
    BytesPerSecond,
    Constant,
    Dated,
    Ratio,
    RequestsPerSecond,
    Seconds,
    VisibleCores,
    in_unit,
    within,
)

GBSeconds: TypeAlias = Annotated[Constant, in_unit("GB-s")]
Architecture: TypeAlias = Literal["x86_64", "arm64"]
Retried: TypeAlias = Literal["throttled", "handler-error", "timeout", "instance-lost", "s3-error", "out-of-memory"]


class PackageConstants(FileModel):
    """How a function is packaged, and what an instance of it goes through before its first call."""

    package_type: Literal["zip", "image"]
    runtime: str
    architecture: Architecture = "x86_64"
    provisioning_s: Seconds
    init_s: Seconds


class StartConstants(FileModel):
    """Start of an instance and of a call; `package` is the one that functions have unless they say otherwise.

    `image_bytes_per_s`: at which an image's bytes beyond a small one are read the first time, in its INIT; None:
    they are fetched before it, as a zip's are.
    """

    warm_s: Seconds
    package: str
    packages: dict[str, PackageConstants] = Field(min_length=1)
    fetch_bytes_per_s: BytesPerSecond
    image_bytes_per_s: BytesPerSecond | None = None
    init_limit_s: Seconds
    keep_alive_s: Seconds
    keep_alive_halving_s: Seconds | None = (
        None  # each such period halves the idle instances; goes before keep_alive_s
    )
    instance_age_s: Seconds

    @model_validator(mode="after")
    def _known(self) -> "StartConstants":
        if self.package not in self.packages:
            raise ValueError(
                f"package: no package {shortened(self.package)}{nearest(self.package, self.packages)}"
            )
        return self


class ConcurrencyConstants(FileModel):
    """How many calls may run at once, and how fast instances may be added."""

    account: Ratio
    scaling_burst: Ratio
    scaling_per_s: Annotated[Constant, in_unit("1/s")]
    timeout_s: Seconds


class RetryConstants(FileModel):
    """What a caller does about a failed attempt: AWS SDK's standard mode.

    `again_after` names the statuses of the record table after which it tries again.
    """

    attempts: Ratio
    base_s: Seconds
    cap_s: Seconds
    again_after: tuple[Retried, ...]


class AsynchronousConstants(FileModel):
    """Lambda's queue of asynchronous invocations; before the n-th retry of an error it waits n times as long."""

    limit_bytes: Bytes
    age_limit_s: Seconds
    attempts: AtLeastOne
    error_wait_s: Seconds
    throttle_base_s: Seconds
    throttle_cap_s: Seconds


class FailureConstants(FileModel):
    """What goes wrong by itself; a straggler is an instance that computes so many times slower."""

    handler_error: Annotated[Constant, in_unit("1"), within(0, 1)]
    straggler: Annotated[Constant, in_unit("1"), within(0, 1)]
    straggler_factor: AtLeastOne
    instances_lost_per_hour: Annotated[Constant, in_unit("1/h")]


class ProcessorConstants(FileModel):
    """One generation of processors: the `share` of instances that get it.

    `speed`: FLOP/s of a vCPU over `flops_per_vcpu`. `int8_speed`, `bf16_speed`: over fp32 on the same processor.
    """

    share: Annotated[Constant, in_unit("1"), within(0, 1)]
    speed: Ratio
    int8_speed: Ratio
    bf16_speed: Ratio


class ComputeConstants(FileModel):
    """Compute of a function; all speeds are over `flops_per_vcpu`, so that what scales it scales them.

    `flops_per_vcpu`: fp32 work of an expert (128 tokens a call and more) on a vCPU of x86_64.
    `scaling_exponent`: n vCPUs are n to this power times as fast, from one vCPU on; below they are n times.
    `transformer_speed`: of attention and the language-model head, which are no single large products.
    `weight_bandwidth_per_vcpu`, `weight_bandwidth_per_function`: reading weights from memory, not from a cache;
    the second is the most that all vCPUs of a function get.
    `arm64`: the generations of processors that functions of arm64 get, by name.
    `instance_factor`: how much longer everything takes on an instance, whatever its call; None: all are alike.
    `sync_bytes_per_s`: at which what is written to /tmp reaches the disk, for who waits for that; None: at once.
    """

    visible_cores: VisibleCores

    mb_per_vcpu: Annotated[Constant, in_unit("MB")]
    flops_per_vcpu: Annotated[Constant, in_unit("FLOP/s")]
    scaling_exponent: Ratio
    transformer_speed: Ratio
    int8_speed: Ratio
    bf16_speed: Ratio
    arm64: dict[str, ProcessorConstants] = Field(min_length=1)
    weight_bandwidth_per_vcpu: BytesPerSecond
    weight_bandwidth_per_function: BytesPerSecond
    jitter: Ratio
    instance_factor: Ratio | None = None
    sync_bytes_per_s: BytesPerSecond | None = None
    runtime_bytes: Bytes


class NetworkConstants(FileModel):
    """Network of a function, each way.

    `function_upload_bytes_per_s_per_mb`: where uploads are slower than downloads. `moved_by_cpu`: what limits a
    function's transfers is its own CPU, so that an upload does not overlap with compute. `process_bytes_per_s`:
    what one process decrypts and copies over all its connections; None: as much as the network brings.
    `sustained`: whether the sustained rate is the same at each memory size, or asked for by memory, `scaled`.
    """

    function_bytes_per_s_per_mb: Annotated[Constant, in_unit("bytes/s/MB")]
    function_upload_bytes_per_s_per_mb: Annotated[Constant, in_unit("bytes/s/MB")] | None = None
    moved_by_cpu: bool = False
    process_bytes_per_s: BytesPerSecond | None = None
    sustained: Literal["default", "scaled"] = "default"
    sustained_bytes_per_s: BytesPerSecond
    scaled_bytes_per_s_per_mb: Annotated[Constant, in_unit("bytes/s/MB")] | None = None
    burst_bytes_per_s: BytesPerSecond
    burst_bytes: Bytes

    @model_validator(mode="after")
    def _scales(self) -> "NetworkConstants":
        if self.sustained == "scaled" and self.scaled_bytes_per_s_per_mb is None:
            raise ValueError("sustained: scaled needs scaled_bytes_per_s_per_mb")
        return self

    def sustained_at(self, memory_mb: float) -> float:
        """The sustained rate of a function, bytes/s, each way."""
        sustained, scaled = self.sustained_bytes_per_s.median, self.scaled_bytes_per_s_per_mb
        if self.sustained == "default" or scaled is None:
            return sustained
        return max(sustained, scaled.median * memory_mb)


class ExpressConstants(FileModel):
    """S3 Express One Zone: what differs from the standard class, prices included."""

    get_latency_s: Seconds
    put_latency_s: Seconds
    get_limit_per_s: RequestsPerSecond
    put_limit_per_s: RequestsPerSecond
    get: USD
    put: USD
    get_per_gb: USD
    put_per_gb: USD


class SlowConstants(FileModel):
    """Requests that are slow by chance: a share of them takes `delay_s` longer, smaller ones in proportion."""

    share: Annotated[Constant, in_unit("1"), within(0, 1)]
    delay_s: Seconds
    from_bytes: Annotated[Constant, in_unit("bytes"), within(1)]


class StorageConstants(FileModel):
    """S3 as a function sees it; latencies, limits and prices of the class that is used.

    `get_vcpu_s`, `put_vcpu_s`: work of the function's own vCPU for each request, before it is sent. Of the
    standard class, each None where it is not so: `get_drift`, `put_drift`: a factor on latencies that changes each
    hour; `slow_gets`, `slow_puts`: what few requests take besides.
    `put_connection_bytes_per_s`: of uploads; None: as of downloads.
    """

    storage_class: Literal["standard", "express"] = "standard"
    get_latency_s: Seconds
    put_latency_s: Seconds
    get_vcpu_s: Seconds | None = None
    put_vcpu_s: Seconds | None = None
    get_drift: Ratio | None = None
    put_drift: Ratio | None = None
    slow_gets: SlowConstants | None = None
    slow_puts: SlowConstants | None = None
    connection_bytes_per_s: BytesPerSecond
    put_connection_bytes_per_s: BytesPerSecond | None = None
    get_limit_per_s: RequestsPerSecond
    put_limit_per_s: RequestsPerSecond
    prefixes: AtLeastOne
    error: Annotated[Constant, in_unit("1"), within(0, 1)]
    parts: AtLeastOne
    least_part_bytes: Annotated[Constant, in_unit("bytes"), within(1)]
    express: ExpressConstants


class PayloadConstants(FileModel):
    """A function that invokes a function, synchronously.

    `function_bytes_per_s_per_mb`: a function's own CPU encodes, sends and decodes payloads, so that all of them
    together get at most so much for each MB of its memory; without it, memory does not matter.
    """

    overhead_s: Seconds
    bytes_per_s: BytesPerSecond
    function_bytes_per_s_per_mb: Annotated[Constant, in_unit("bytes/s/MB")] | None = None
    limit_bytes: Bytes
    encoding_factor: Ratio


class TierConstants(FileModel):
    """The price of a GB-s beyond so many in a month, all functions of an architecture together."""

    architecture: Architecture
    above_gb_s: GBSeconds
    gb_s: USD


class PriceConstants(FileModel):
    """What AWS charges: `price_list_date` is the day of the prices, `date` the day whose rules hold.

    The free tier is what is left of it, 0: off. `used_gb_s`: what the account has used this month, which decides
    the tier. `savings_plan`: a Compute Savings Plan's discount, on duration and provisioned concurrency. An
    asynchronous event is one request up to `event_first_bytes`, and one more for each `event_step_bytes` begun.
    """

    price_list_date: date
    date: date
    gb_s: USD
    gb_s_arm64: USD
    tiers: dict[str, TierConstants]
    used_gb_s: GBSeconds
    savings_plan: Annotated[Constant, in_unit("1"), within(0, 1)]
    invocation: USD
    event_first_bytes: Annotated[Constant, in_unit("bytes"), within(1)]
    event_step_bytes: Annotated[Constant, in_unit("bytes"), within(1)]
    s3_put: USD
    s3_get: USD
    billing_step_s: Dated
    init_is_billed: Dated
    image_init_is_billed: Dated
    tmp_gb_s: USD
    free_gb_s: GBSeconds
    free_invocations: Ratio
    provisioned_gb_s: USD
    provisioned_gb_s_arm64: USD
    provisioned_duration_gb_s: USD
    provisioned_duration_gb_s_arm64: USD
    provisioned_init_is_billed: Dated
    provisioned_step_s: Seconds

    def of(self, name: str, architecture: Architecture) -> float:
        """A price that differs by architecture, less the Savings Plan's discount, USD."""
        constant: Constant = getattr(self, name if architecture == "x86_64" else f"{name}_arm64")
        return constant.median * (1 - self.savings_plan.median)

    def tiers_of(self, architecture: Architecture) -> tuple[tuple[float, float], ...]:
        """From how many GB-s of the rest of the month on a GB-s costs what, USD; rising from 0."""
        off, used = 1 - self.savings_plan.median, self.used_gb_s.median
        mine = [x for x in self.tiers.values() if x.architecture == architecture]
        every = [(0.0, self.of("gb_s", architecture)), *((x.above_gb_s.median, x.gb_s.median * off) for x in mine)]
        every.sort()
        now = max(k for k, (above, _) in enumerate(every) if above <= used)
        return ((0.0, every[now][1]), *((above - used, usd) for above, usd in every[now + 1 :]))


class BetterTransformerConstants(FileModel):
    """How many times faster torch's fused layers are than eager ones, by layer type; expert MLPs gain nothing."""

    attention: AtLeastOne
    encoder: AtLeastOne


class ClusterConstants(FileModel):
    """The CPU cluster that serverless is compared with.

    `core_speed`: FLOP/s of a core over those of a Lambda vCPU (`compute.flops_per_vcpu`).
    `efficiency`: share of its cores' FLOP/s that the whole machine gets out of a large batch.
    """

    instance: str
    cores: Ratio
    core_speed: Ratio
    efficiency: Annotated[Constant, in_unit("1"), within(0, 1)]
    memory_bytes_per_s: BytesPerSecond
    smallest_task_flops: Annotated[Constant, in_unit("FLOP"), within(1)]
    better_transformer: BetterTransformerConstants
    price_per_hour: USD
    month_utilisation: Ratio

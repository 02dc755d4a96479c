"""A real MoE model on a Lambda endpoint: a plan deployed, batches of tokens served, every bill read.

The chain is the simulator's (`simulator/serving/forward_pass.py`): the client starts the head and looks for the
tail's output; functions start each other. Experts are started with their layer, the next non-MoE function with
them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from lambda_probe.account.calls import Attempt, call
from lambda_probe.account.clients import CLIENT_ERRORS, one_line
from lambda_probe.account.deploy import Deployment
from lambda_probe.account.interrupts import deaf
from lambda_probe.account.logs import Logs
from lambda_probe.campaign.costs import NEVER_RAN
from lambda_probe.handlers.exchange import at_once, failed_key, pack, text_of
from lambda_probe.handlers.layers import Sizes
from lambda_probe.handlers.non_moe import output_key
from lambda_probe.live.functions import LOG_PATIENCE_S, RUNTIME, LiveFunctions
from lambda_probe.live.rows import LiveCall, LivePrices, LiveRow, row_of, status_of
from lambda_probe.live.stages import answered, arrays_of, asked, blocks_function, stages_of
from moe.errors import PlatformError
from moe.pretrained.export import ExportedModel
from simulator.plan import DeploymentPlan, DeploymentProblem, non_moe_memory_mb
from simulator.serving.layer import expert_function, non_moe_function
from simulator.serving.overflow import tokens_that_fit
from simulator.serving.settled import served_so
from simulator.staged_plan import AnyPlan, BlocksStage

POLL_S = 0.05
PATIENCE_S = 300.0
LOOK_FOR_DEAD_S = 2.0
UNLIMITED = 2**31


@dataclass(frozen=True)
class LiveBatch:
    """A batch that was served.

    Attributes:
        number: of the batch. output: of the tail, (tokens, hidden); None where there is none.
        rows: a row for every call. latency_s: from the client's call to the end of the tail; NaN where it failed.
        failed: what failed first, or which REPORT lines are missing or of another memory size; else empty.
        elapsed_s: until the client had seen the output.
    """

    number: int
    output: np.ndarray | None
    rows: tuple[LiveRow, ...]
    latency_s: float
    failed: str
    elapsed_s: float


class LiveModel:
    """A model whose functions are deployed as plans say; for `with LiveModel(...) as live:`.

    Args:
        deployment: what creates functions and the bucket, and removes them.
        logs: of its functions. model: what is served. prices: for the rows.
        poll_s: how often a function looks for what is not there yet.
        packages: files that the functions' zip needs beside the handlers (numpy, on AWS).
        runtime: that compiled packages in the zip were built for.
    """

    def __init__(
        self,
        deployment: Deployment,
        logs: Logs,
        model: ExportedModel,
        prices: LivePrices,
        poll_s: float = POLL_S,
        packages: Mapping[str, bytes] | None = None,
        runtime: str = RUNTIME,
    ) -> None:
        self._deployment, self.model, self._prices = deployment, model, prices
        self._poll_s, self._clients, self._served = poll_s, deployment.clients, 0
        self._functions = LiveFunctions(deployment, logs, prices, packages, runtime)
        self._description: dict[str, Any] = {}
        self._keep = False
        self._stages: tuple[BlocksStage, ...] = ()

    def __enter__(self) -> LiveModel:
        s3, bucket, model = self._clients.s3, self._deployment.bucket, self.model
        with _told("the model's parameters cannot be uploaded"):
            for e, arrays in enumerate(model.non_moe):
                s3.put_object(Bucket=bucket, Key=_parameters(non_moe_function(e)), Body=pack(arrays))
            for e, experts in enumerate(model.experts):
                for i, arrays in enumerate(experts):
                    s3.put_object(Bucket=bucket, Key=_parameters(expert_function(e, i)), Body=pack(arrays))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with deaf():
            self._deployment.remove()
            with _told("logs of functions cannot be removed"):
                self._functions.remove_logs()

    @property
    def started_usd(self) -> float:
        """What starting instances was billed."""
        return self._functions.started_usd

    # -- deploying ----------------------------------------------------------------------------------------

    def deploy(self, problem: DeploymentProblem, plan: AnyPlan, foresee: bool = True) -> None:
        """Create or change every function as the plan says, and start its planned instances.

        What it settles besides, memory of gate and non-MoE functions and `reload`, holds here too.

        Args:
            foresee: a load beyond a replica's memory or payload runs on more replicas, as in the simulator;
                else as planned, whatever comes. Of lanes none is foreseen.

        Raises InputError: stages that cannot be served live, or a memory size that the problem lacks.
        """
        self._stages = () if isinstance(plan, DeploymentPlan) else stages_of(plan)
        if isinstance(plan, DeploymentPlan):
            self._deploy_layers(problem, plan, foresee)
            return
        s3, bucket, instances = self._clients.s3, self._deployment.bucket, {}
        with _told("the model's parameters cannot be uploaded"):
            for stage in self._stages:
                name = blocks_function(stage)
                s3.put_object(Bucket=bucket, Key=_parameters(name), Body=pack(arrays_of(self.model, stage)))
                self._functions.ensure(name, stage.memory_mb)
                instances[name] = stage.lanes
        self._functions.warm_up(instances)

    def _deploy_layers(self, problem: DeploymentProblem, plan: DeploymentPlan, foresee: bool) -> None:
        problem = served_so(problem, plan.non_moe_memory_mb, plan.reload)
        self._keep = problem.platform.reload == "when-cold"
        instances, layers = {}, []
        for e, layer in enumerate(plan.layers):
            capacity = tokens_that_fit(problem, e, layer)
            experts = []
            for i, expert in enumerate(layer.experts):
                name = expert_function(e, i)
                self._functions.ensure(name, expert.memory_mb)
                instances[name] = expert.replicas
                experts.append(
                    {
                        "function": self._functions.full_name(name),
                        "parameters": _parameters(name),
                        "replicas": expert.replicas,
                        "capacity": max(1, int(min(capacity[i], UNLIMITED))) if foresee else UNLIMITED,
                    }
                )
            method, size = layer.communication, layer.minibatch_tokens
            layers.append({"communication": method, "minibatch_tokens": size, "experts": experts})
        for e in range(len(plan.layers) + 1):
            self._functions.ensure(non_moe_function(e), non_moe_memory_mb(problem, e))
            instances[non_moe_function(e)] = 1
        self._description = {
            "sizes": asdict(self.sizes),
            "layers": layers,
            "non_moe": [
                {"function": self._functions.full_name(name), "parameters": _parameters(name)}
                for name in map(non_moe_function, range(len(plan.layers) + 1))
            ],
        }
        self._functions.warm_up(instances)

    @property
    def sizes(self) -> Sizes:
        """What the functions need to know of the model beside its arrays."""
        model = self.model
        return Sizes(model.heads, model.sequence_tokens, model.top_k, model.epsilon)

    # -- serving ------------------------------------------------------------------------------------------

    def serve(self, tokens: np.ndarray) -> LiveBatch:
        """Serve a batch of token IDs (S, n) with the plan that is deployed. Raises PlatformError."""
        with _told("a batch cannot be served"):
            return self._serve_stages(tokens) if self._stages else self._serve(tokens)

    def _serve_stages(self, tokens: np.ndarray) -> LiveBatch:
        """The client invokes the lanes of each stage, all at once, and waits for their answers."""
        number, bucket, s3 = self._served, self._deployment.bucket, self._clients.s3
        self._served += 1
        batch, began_s, made, why = f"batch-{number}", time.time(), 0, ""
        common = {"batch": batch, "bucket": bucket, "poll_s": self._poll_s}
        carried: list[bytes] = []
        stored: tuple[str, ...] = ()
        for stage in self._stages:
            name = blocks_function(stage)
            full, key = self._functions.full_name(name), _parameters(name)
            asking = asked(stage, full, key, common, self.sizes, tokens, carried, stored)
            tried = at_once([partial(self._ask, event) for event in asking.events])
            made += sum(each.status not in NEVER_RAN for each in tried)
            failed = [each for each in tried if each.status != "ok"]
            if failed:
                why = f"{failed[0].function} {failed[0].status} {failed[0].error}".strip()
                break
            carried, stored = answered([each.answer for each in tried]), asking.outputs
        elapsed_s = time.time() - began_s
        calls, untold = self._functions.calls(batch, began_s, made)
        why = why or self._functions.wrong_memory(calls)
        if untold and not why:
            why = f"{untold} calls have no REPORT line that can be read {LOG_PATIENCE_S:.0f} s after the batch"
        output = None
        if not why:
            parts = carried or [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in stored]
            output = np.frombuffer(b"".join(parts), np.float32).reshape(tokens.size, -1)
        rows = tuple(
            row_of(x, number, self._functions.short_name(x.account.function), began_s, self._prices) for x in calls
        )
        last = [x.record.ended_s for x in rows if x.record.layer == self._stages[-1].first_layer]
        self._forget(batch)
        return LiveBatch(number, output, rows, max(last) if last and not why else math.nan, why, elapsed_s)

    def _ask(self, event: dict[str, Any]) -> Attempt:
        """A lane's answer, asked for once."""
        return call(self._clients, event["function"], event | {"sent_s": time.time()}, attempts=1)[-1]

    def _serve(self, tokens: np.ndarray) -> LiveBatch:
        number, bucket = self._served, self._deployment.bucket
        self._served += 1
        batch, head = f"batch-{number}", self._description["non_moe"][0]["function"]
        began_s = time.time()
        event = {
            "batch": batch,
            "bucket": bucket,
            "poll_s": self._poll_s,
            "keep": self._keep,
            "role": "non-moe",
            "layer": 0,
            "model": self._description,
            "token_ids": text_of(tokens.astype(np.int32).tobytes()),
            "function": head,
            "caller": "",
            "sent_s": began_s,
        }
        self._clients.functions.invoke(
            FunctionName=head, InvocationType="Event", Payload=json.dumps(event).encode()
        )
        key = self._wait(batch, began_s)
        elapsed_s = time.time() - began_s
        calls, untold = self._functions.calls(batch, began_s)
        output, why = None, self._functions.wrong_memory(calls)
        if untold:
            why = f"{untold} calls have no REPORT line that can be read {LOG_PATIENCE_S:.0f} s after the batch"
        if key == output_key(batch):
            body = self._clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            output = np.frombuffer(body, np.float32).reshape(tokens.size, -1)
        else:
            why = first_failure(calls) or why or "it did not end in time"
        rows = tuple(
            row_of(x, number, self._functions.short_name(x.account.function), began_s, self._prices) for x in calls
        )
        tail = [x.record.ended_s for x in rows if x.record.layer == len(self.model.experts)]
        self._forget(batch)
        return LiveBatch(number, output, rows, tail[0] if tail and not why else float("nan"), why, elapsed_s)

    def _wait(self, batch: str, began_s: float) -> str:
        """Until the output is there, or a call has failed: the key that tells."""
        looked = began_s
        while time.time() - began_s < PATIENCE_S:
            for key in (output_key(batch), failed_key(batch)):
                if self._has(key):
                    return key
            time.sleep(0.2)
            if time.time() - looked > LOOK_FOR_DEAD_S:  # a function that was killed tells nobody
                looked = time.time()
                if any(status_of(x) != "ok" for x in self._functions.found(batch, began_s)[0]):
                    self._clients.s3.put_object(Bucket=self._deployment.bucket, Key=failed_key(batch), Body=b"")
        self._clients.s3.put_object(Bucket=self._deployment.bucket, Key=failed_key(batch), Body=b"")
        return failed_key(batch)

    def _has(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._clients.s3.head_object(Bucket=self._deployment.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def _forget(self, batch: str) -> None:
        """Remove a batch's objects."""
        s3, bucket = self._clients.s3, self._deployment.bucket
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{batch}/"):
            if page.get("Contents"):
                keys = [{"Key": item["Key"]} for item in page["Contents"]]
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


@contextmanager
def _told(what: str) -> Iterator[None]:
    """An error of boto3 as one for the user."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise PlatformError(f"{what}: {one_line(error)}: check the connection and try again") from None


def first_failure(calls: Sequence[LiveCall]) -> str:
    """Function, status and words of the call that failed by itself, else of one that failed because of it."""
    failed = [x for x in calls if status_of(x) != "ok"]
    failed.sort(key=lambda x: (status_of(x) == "upstream-failed", x.account.ended_s))
    return "; ".join(f"{x.account.function} {status_of(x)} {x.account.error}".strip() for x in failed[:1])


def _parameters(function: str) -> str:
    return f"parameters/{function}"

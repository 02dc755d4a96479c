"""Programs in a scenario file: if these fail, a typing error is played as something else, or explained badly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moe.errors import InputError
from simulator.traffic.open_loop import read_inputs
from simulator.traffic.scenario import load_scenario

WORKFLOW = Path(__file__).parents[3] / "experiments" / "configs" / "traffic" / "workflow.yaml"


def bad_inputs() -> Iterator[tuple[str, str]]:
    """A setting of workflow.yaml, and what is said of it."""
    programs = "functions.pay.program"
    yield f"{programs}=[{{gett: {{bytes: 1}}}}]", "functions.pay.program.0.gett: unknown key; did you mean 'get'?"
    yield f"{programs}=[{{get: {{bytes: -1}}}}]", "get.bytes: input should be greater than or equal to 0, got -1"
    yield f"{programs}=[{{put: {{bytes: 1, part: 2}}}}]", "program.0.put.part: unknown key; did you mean 'parts'?"
    yield (
        f"{programs}=[{{compute: {{vcpu_s: -0.5}}}}]",
        "vcpu_s: input should be greater than or equal to 0, got -0.5",
    )
    yield f"{programs}=[{{compute: {{vcpu_s: 1, flops: 1}}}}]", "expected one of vcpu_s, flops, seconds"
    yield f"{programs}=[{{compute: {{seconds: 1, threads: 2}}}}]", "threads, waits_s, synced_bytes: share"
    yield f"{programs}=[{{sleep: {{seconds: {{quantiles: {{0.5: 2, 0.9: 1}}}}}}}}]", "increasing values"
    yield (
        f"{programs}=[{{sleep: {{seconds: {{}}}}}}]",
        "expected a number, or one of exponential_mean and quantiles",
    )
    yield (
        f"{programs}=[{{sleep: {{seconds: 1}}, fail: {{}}}}]",
        "expected one phase with its values, got fail, sleep",
    )
    yield f"{programs}=[{{fail: }}]", "program.0: expected one phase with its values, got fail"
    yield (
        f"{programs}=[{{fail: {{probability: 2}}}}]",
        "fail.probability: input should be less than or equal to 1, got 2",
    )
    yield (
        f"{programs}=[{{return: {{bytes: 1}}}}, {{fail: {{}}}}]",
        "0.return: expected the last phase, got 1 after it",
    )
    yield f"{programs}=[{{return: {{bytes: 6e6}}}}]", "program.0.return.bytes: expected at most 4,718,592 bytes"
    yield f"{programs}=[{{first_call: [{{invoke: {{function: close}}}}]}}]", "first_call.0.invoke: unknown key"
    yield (
        f"{programs}=[{{invoke: {{function: clos}}}}]",
        "pay.program.0.invoke: no function 'clos'; did you mean 'close'?",
    )
    yield f"{programs}=[{{invoke: {{function: pay}}}}]", "functions: pay -> pay: invoke each other without end"
    yield (
        f"{programs}=[{{invoke: {{function: orchestrate, wait: false}}}}]",
        "orchestrate -> pay -> orchestrate: invoke each",
    )
    yield (
        f"{programs}=[{{invoke: {{function: close, count: 0}}}}]",
        "invoke.count: input should be greater than or equal to 1",
    )
    yield (
        f"{programs}=[{{invoke: {{function: close, payload_bytes: 5e6}}}}]",
        "pay.program.0.invoke.payload_bytes: expected at",
    )
    yield (
        f"{programs}=[{{invoke: {{function: close, payload_bytes: 1e6, wait: false}}}}]",
        "through the asynchronous queue",
    )
    yield (
        f"{programs}=[{{invoke: [{{function: close}}, {{function: ship, wait: false}}]}}]",
        "the same `wait` for all",
    )
    yield f"{programs}=[{{invoke: []}}]", "program.0.invoke"
    yield "functions={}", "functions: dictionary should have at least 1 item"
    yield (
        "functions.pay.memory_mb=64",
        "functions.pay.memory_mb: input should be greater than or equal to 128, got 64",
    )
    yield "functions.pay={}", "functions.pay.memory_mb: required, but missing"
    yield "functions.pay.provisioned_instances=2000", "expected at most the account's 1000"
    yield (
        "functions.reserve={memory_mb: 128, reserved_concurrency: 1, provisioned_instances: 2}",
        "at most reserved_concurrency = 1",
    )
    yield "entry=null", "entry: required with functions; expected one of: close, fraud"
    yield "entry=orchestrated", "entry: no function 'orchestrated'; did you mean 'orchestrate'?"
    yield "entry.payload_bytes=5e6", "entry.payload_bytes: expected at most 4,718,592 bytes"
    yield "functions=null", "entry: expected it with functions only"


@pytest.mark.parametrize(("setting", "said"), list(bad_inputs()))
def test_a_wrong_program_is_named_in_one_line(setting: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_inputs(load_scenario(WORKFLOW, (setting,)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)

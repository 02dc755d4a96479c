"""The setting of Fig. 13 that is nearest to the paper's: no latency limit; memory is what a prediction decides."""

from __future__ import annotations

from pydantic import Field

from experiments.paper.figures.fig13.samplers import PAPERS
from moe.files import FileModel
from optimizer.problem import with_memory
from simulator.plan import DeploymentProblem

LAMBDA_SIZES_MB = tuple(range(128, 1025, 64))
"""What Lambda sold until December 2020, up to 1 GB: without a limit the cheapest plans have no more. None of the
paper's 14 sizes is between 128 MB, which cannot hold PyTorch, and 768 MB, which holds 9,800 tokens of any model
here: with those, no expert's memory depends on its tokens."""


class MemoryBinds(FileModel):
    """No limit, objective `bill`, J = 1, overflow that is met (`retry`), `bayes` printed and hard.

    Attributes:
        runs, trials, samplers: as those of the figure.
        runtime_bytes: of a function that has run a PyTorch module once.
        token_bytes: peak memory of a token in an expert's replica, its input and output with it, by model.
    """

    runs: int = Field(12, ge=2)
    trials: int = Field(30, ge=2)
    samplers: tuple[str, ...] = (*PAPERS, "recount")
    runtime_bytes: float = Field(gt=0)
    token_bytes: dict[str, float]

    def problem(self, problem: DeploymentProblem, model: str) -> DeploymentProblem:
        """The problem without its limit, with this memory of its experts."""
        return with_memory(problem.with_limit(None), self.runtime_bytes, self.token_bytes[model])

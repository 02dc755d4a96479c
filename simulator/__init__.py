"""The platform and what runs on it: a SimPy model of AWS Lambda, S3 and a CPU cluster.

`simulate(problem, plan, profile)` plays a deployment plan; `load_profile` reads a platform profile.
"""

from simulator.plan import DeploymentPlan, DeploymentProblem, read_plan, read_problem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.serving.simulate import SimulatedRun, simulate

__all__ = [
    "DeploymentPlan",
    "DeploymentProblem",
    "PlatformProfile",
    "SimulatedRun",
    "load_profile",
    "read_plan",
    "read_problem",
    "simulate",
]

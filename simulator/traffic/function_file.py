"""How a function of a scenario file is deployed (YAML)."""

from __future__ import annotations

from pydantic import Field, model_validator

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel
from simulator.cloud.call import Program
from simulator.cloud.lambda_service import LambdaService
from simulator.plan import MB, MemoryMB, NonNegative
from simulator.profiles.schema import PlatformProfile


class Deployed(FileModel):
    """What AWS is told about a function."""

    memory_mb: MemoryMB
    tmp_mb: int = Field(512, ge=512, le=10_240, description="/tmp; what is beyond 512 is charged")
    package: str | None = Field(None, description="one of the platform's; null: its default")
    package_mb: NonNegative = Field(
        0.0, description="unzipped code beyond a small package's, fetched at a cold start"
    )
    timeout_s: float | None = Field(None, gt=0, le=900, description="null: the platform's")
    reserved_concurrency: int | None = Field(None, ge=1, description="null: it shares the account's")
    warm_instances: int = Field(0, ge=0, description="initialised and idle at the start")
    provisioned_instances: int = Field(0, ge=0, description="kept initialised, and charged for")

    @model_validator(mode="after")
    def _possible(self) -> Deployed:
        most = self.reserved_concurrency
        if most is not None and self.provisioned_instances > most:
            raise ValueError(
                f"provisioned_instances: expected at most reserved_concurrency = {most}, "
                f"got {self.provisioned_instances}"
            )
        return self

    @property
    def concurrency(self) -> int:
        """What is set aside for it of the account's."""
        return max(self.reserved_concurrency or 0, self.provisioned_instances)

    def check(self, key: str, profile: PlatformProfile) -> None:
        """That the platform has its package. Raises InputError."""
        packages = profile.start.packages
        if self.package is not None and self.package not in packages:
            raise InputError(
                f"{key}.package: no package {shortened(self.package)}{nearest(self.package, packages)}"
            )

    def deploy(self, service: LambdaService, name: str, program: Program | None = None) -> None:
        """Deploy it."""
        service.deploy(
            name,
            self.memory_mb,
            package=self.package,
            package_bytes=self.package_mb * MB,
            tmp_mb=self.tmp_mb,
            timeout_s=self.timeout_s,
            reserved=self.reserved_concurrency,
            warm=self.warm_instances,
            provisioned=self.provisioned_instances,
            program=program,
        )

"""Contenders as files: every constant with its source, one more by writing a file, one line for a bad one."""

from pathlib import Path

import pytest

from moe.errors import InputError
from simulator.profiles.contenders import Servers, contender_names, load_any, load_contender
from simulator.profiles.instances import catalogue
from simulator.profiles.schema import PlatformProfile, profile_names


@pytest.mark.parametrize("name", contender_names())
def test_every_constant_says_where_it_comes_from(name: str) -> None:
    found = load_contender(name).constants()
    assert found
    for path, constant in found.items():
        assert len(constant.source) > 10, path
        assert constant.date[:2] == "20", path


def test_all_kinds_are_there() -> None:
    expected = {"lambda-x86_64", "lambda-arm64", "lambda-provisioned", "lambda-managed-instances", "tokens"}
    expected |= {"fargate", "fargate-spot", "ec2", "gpu-g6.xlarge", "gpu-g5.xlarge", "gpu-g6e.xlarge"}
    assert expected | {"gpu-p5.4xlarge", "gpu-p5.48xlarge"} <= set(contender_names())
    assert not set(contender_names()) & set(profile_names())
    assert isinstance(load_any("paper"), PlatformProfile)


def test_the_catalogue_has_the_prices_of_its_source() -> None:
    assert catalogue()["c8g.large"].usd_per_hour == 0.07976
    assert catalogue()["g6.xlarge"].gpu == "l4"
    assert catalogue()["p5.48xlarge"].gpus == 8


def test_one_instance_of_the_catalogue_is_a_contender() -> None:
    servers = load_contender("ec2-c8g.large").runs
    assert isinstance(servers, Servers)
    assert servers.instances == ("c8g.large",)


def test_a_user_adds_one_by_writing_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: gpu-g6.xlarge\nname: mine\nruns: {instances: [g6.2xlarge]}\n")
    mine = load_any(tmp_path / "mine.yaml")
    assert mine.name == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: gpuu\n", "did you mean 'gpu'"),
        ("base: gpu\nruns: {instances: [g6.xlarg]}\n", "did you mean 'g6.xlarge'"),
        ("base: gpu\nruns: {instances: []}\n", "instances"),
        ("base: gpu\nrun: {}\n", "unknown key"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"schema: contender/1\n{text}")
    with pytest.raises(InputError, match=said):
        load_any(tmp_path / "mine.yaml")

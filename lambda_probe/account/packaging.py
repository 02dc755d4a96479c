"""Installed packages as files of a function's zip: AWS's managed runtimes have boto3, and no numpy."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files

from moe.errors import InputError

_LEFT_OUT = ("tests", "__pycache__", "include", "_pyinstaller")


def installed_package(name: str) -> dict[str, bytes]:
    """The files of an installed package, tests and headers left out, by their path in a zip.

    Compiled code is this machine's: it runs on AWS where this machine is Linux on x86-64 and the function's
    runtime is this Python. Raises InputError where the package is not installed.
    """
    try:
        listed = files(name) or []
    except PackageNotFoundError:
        raise InputError(f"package: {name} is not installed") from None
    return {
        str(file): file.read_binary()
        for file in listed
        if file.parts[0] != ".." and not set(file.parts) & set(_LEFT_OUT) and file.suffix not in (".pyi", ".a")
    }

"""The commands of `smoe`; importing this package registers them."""

from experiments.commands import deploy, house, routing, run

__all__ = ["deploy", "house", "routing", "run"]

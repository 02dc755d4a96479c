"""The commands of `smoe`; importing this package registers them."""

from experiments.commands import deploy, house, platform, routing, run

__all__ = ["deploy", "house", "platform", "routing", "run"]

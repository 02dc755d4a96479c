"""`python -m experiments`: the same as the command `smoe`."""

from experiments.cli import main

main()

"""How much of the fault tests runs: a small part with the rest of the tests, all of it by `smoe test --faults`."""

import os

SEED = int(os.environ.get("SMOE_FAULTS_SEED") or 0)
WHOLE = "SMOE_FAULTS_SEED" in os.environ

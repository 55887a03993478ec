"""How the threads of torch wait for each other."""

import os

SPINS = "20000"  # rounds in which a thread looks whether to go on: a fraction of a millisecond


def yield_cores() -> None:
    """Has waiting threads sleep soon, unless the environment says how they wait; before torch is imported.

    By OpenMP's default they spin for milliseconds, and where other processes run they keep the core from the thread
    that they wait for. Threads that sleep at once lose a third of an idle machine's speed (docs/sweeps.md).
    """
    if not {"OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & os.environ.keys():  # other names of the same
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

"""How the threads of torch wait for each other."""

import os


def yield_cores() -> None:
    """Has waiting threads sleep in place of spinning, unless the environment says how; before torch is imported.

    Where other processes run, a thread that spins keeps the core from the one that it waits for.
    """
    if not {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():  # other names of the same
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

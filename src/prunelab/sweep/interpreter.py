"""Options of the Python that runs a sweep's jobs: it finds the modules that this process finds."""

import os

# Without it `python -m` searches the working folder first, and a user's train.py would hide prunelab's.
SAFE = "-P"


def search_path() -> str:
    """PYTHONPATH for a job: this process's, and then the working folder.

    The user's own networks may lie there, as in `python -m train model._target_=my_networks.Net`.
    """
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*([inherited] if inherited else []), os.getcwd()])

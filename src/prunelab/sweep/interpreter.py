"""Options of the Python that runs a sweep's jobs: it finds the modules that this process finds."""

import os
import sys

# Without it `python -m` searches the working folder first, and a user's train.py would hide prunelab's.
SAFE = "-P"


def search_path() -> str:
    """PYTHONPATH for a job: this process's, and the working folder where this process imports from it.

    The user's own networks may lie there, as in `python -m train model._target_=my_networks.Net`.
    """
    inherited = os.environ.get("PYTHONPATH")
    from_folder = not sys.flags.safe_path and sys.path[0] in ("", os.getcwd())
    return os.pathsep.join([*([inherited] if inherited else []), *([os.getcwd()] if from_folder else [])])

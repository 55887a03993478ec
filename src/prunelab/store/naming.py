"""Names of jobs: of their folders, and of their methods in reports."""

import hashlib
import re
from collections.abc import Sequence

from prunelab.store.identity import changes_result

LONGEST = 180  # characters
BYTES = 255  # that a file name may have on any file system, in UTF-8


def job_folder(
    overrides: Sequence[str], method: str, rate: object, seed: object, rerun: bool | str = False, now: str = ""
) -> str:
    """A folder name made of a job's overrides: "prune=usp,rate=0.2,seed=0,epochs=10".

    The order of the overrides does not matter. With `rerun` it ends in `now`, the time of the command, or in the time
    given, which resumes what that command began.
    """
    given = dict(item.lstrip("+~").partition("=")[::2] for item in overrides)
    for key in ("prune", "rate", "seed"):
        given.pop(key, None)
    lead = [f"prune={method}", f"rate={_plain(rate)}", f"seed={_plain(seed)}"]
    if given.get("trainer.devices") == "1":
        del given["trainer.devices"]
    result = {key for key in given if changes_result(key) and key != "trainer"}
    result.add("trainer.devices")  # see resolve_auto in job/run.py
    rest = [f"{key}={value}" for key, value in sorted(given.items()) if key in result]
    whole = ",".join(lead + rest + ([f"rerun={now if rerun is True else rerun}"] if rerun else []))
    name = re.sub(r"[^\w.,=+\-\[\]{}@]", "_", whole)
    if name == whole and len(name) <= LONGEST and len(name.encode()) <= BYTES:
        return name
    # tells jobs apart that differ in what is cut off; an argument that is no text has surrogates
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{beginning(name[:LONGEST], BYTES - len(digest) - 1)}~{digest}"


def beginning(name: str, size: int) -> str:
    """As many of the first characters as take at most `size` bytes in UTF-8."""
    return name.encode()[:size].decode(errors="ignore")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def variant(method: str, overrides: Sequence[str]) -> str:
    """The method with its own settings, where `overrides` give it any: "usp (scope=global)".

    Jobs with other settings of their method are other methods: their mean would describe neither.
    """
    inside = re.compile(r"[+~]*(prune[./](pruning\.pruner\.)?|(?=(rates|retrain|rewind|rounds|round_to|distill)[=.]))")
    settings = sorted(inside.sub("", o, count=1) for o in overrides if inside.match(o))
    return f"{method} ({', '.join(settings)})" if settings else method

"""Names of jobs: of their folders, in lists of jobs, and of their methods in reports."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from prunelab.store.identity import changes_result

LONGEST = 180  # characters
BYTES = 255  # that a file name may have on any file system, in UTF-8
FIRST = ("prune", "rate", "seed")  # in every name
ROOTS = "budget|distill|optim.finetune|rates|retrain|rewind|round_to|rounds"
# How a setting of a method begins.
OWN = re.compile(rf"[+~]*(prune[./](pruning\.pruner\.(?!seed))?|(?=({ROOTS})[=.]|code of ))")
UNUSED = re.compile(r"[+~]*(budget|optim.finetune)=")  # by a network that is not pruned


def job_folder(
    overrides: Sequence[str], method: str, rate: object, seed: object, rerun: bool | str = False, now: str = ""
) -> str:
    """A folder name made of a job's overrides: "prune=usp,rate=0.2,seed=0,epochs=10".

    The order of the overrides does not matter. With `rerun` it ends in `now`, the time of the command, or in the time
    given, which resumes what that command began.
    """
    given = dict(item.lstrip("+~").partition("=")[::2] for item in overrides)
    for key in FIRST:
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


def short_names(jobs: Mapping[Path, Sequence[str]]) -> tuple[list[str], dict[Path, str]]:
    """What all jobs share, and for each a name of what it has besides: (["seed=0"], {a: "rate=0.2", b: "rate=0.8"}).

    `jobs` are the overrides of each, or the `parts` of its folder's name, by its folder. Where names would be empty or
    alike, nothing counts as shared and they are those of the folders.
    """
    common = shared(jobs.values()) if len(jobs) > 1 else []
    names = {folder: short_name(given, common) for folder, given in jobs.items()}
    apart = all(names.values()) and len(set(names.values())) == len(names)
    return (common, names) if apart else ([], {folder: folder.name for folder in jobs})


def shared(jobs: Iterable[Sequence[str]]) -> list[str]:
    """The overrides of every job, in the order of the first's."""
    every = list(jobs)
    return [part for part in every[0] if all(part in given for given in every)] if every else []


def short_name(overrides: Iterable[str], common: Collection[str] = ()) -> str:
    """The overrides of a job that are not in `common`, as they are typed, in the order of a folder's name."""
    return " ".join(sorted((o for o in overrides if o not in common), key=_order))


def parts(folder: str) -> list[str]:
    """What the name of a folder is made of, as far as it is whole; no comma within a list or a path parts it.

    A path, as that of `pretrained`, may end in such a name itself. Its keys do not follow in the order of `job_folder`.
    """
    whole = folder[: folder.rindex(",")] if len(folder) > LONGEST and "," in folder else folder
    found: list[str] = []
    for part in re.split(r",(?![^\[{]*[\]}])", whole):
        key, last = part.partition("=")[0], found[-1].partition("=")[0] if len(found) > len(FIRST) else ""
        if found and found[0].startswith("prune=") and (key in FIRST[: len(found)] or (key < last and key != "rerun")):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def rerun_of(folder: str) -> str:
    """The time of a `rerun`, in the name of its folder; "" of any other, and where it is cut off."""
    found = re.search(r"rerun=([\w-]+?)(~[0-9a-f]{8})?$", folder)
    return found[1] if found else ""


def _order(override: str) -> tuple[int, str]:
    key = override.partition("=")[0]
    return FIRST.index(key) if key in FIRST else len(FIRST), override


def beginning(name: str, size: int) -> str:
    """As many of the first characters as take at most `size` bytes in UTF-8."""
    return name.encode()[:size].decode(errors="ignore")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def variant(method: str, overrides: Iterable[str]) -> str:
    """The method with its own settings, where `overrides` give it any: "usp (scope=global)".

    Jobs with other settings of their method are other methods: their mean would describe neither.
    """
    own = [o for o in overrides if OWN.match(o) and not (method == "none" and UNUSED.match(o))]
    settings = sorted(OWN.sub("", o, count=1) for o in own)
    return f"{method} ({', '.join(settings)})" if settings else method

"""Groups of comparable jobs, each with a table and figures of its own."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from prunelab.report.figures.palette import Colours
from prunelab.store.naming import beginning
from prunelab.store.result import Result

VARYING = ("prune", "rate", "seed", "name")  # these may differ within a group
HEADLINE = ("model", "data", "epochs")  # in every header
LONGEST = 80  # bytes of a part of a file name
MANY = 4  # single-job groups that get a table each; a search has one for every job


@dataclass(frozen=True)
class Group:
    """Jobs that differ in method, rate and seed only; in a `scattered` group in more, which is in the method's name."""

    results: tuple[Result, ...]
    traits: dict[str, str] = field(default_factory=dict)  # what differs from other groups; {} for a single group
    scattered: bool = False
    study: tuple[Result, ...] = ()  # all jobs of the report, which share colours; () where there are no others

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.traits.items())

    @property
    def suffix(self) -> str:
        """For file names: "" when there is one group."""
        return slug("-" + self.label.replace(", ", ",")) if self.traits else ""

    @property
    def methods(self) -> list[str]:
        """In order of appearance, the unpruned `none` first."""
        return _methods(self.results)

    @property
    def rates(self) -> list[float]:
        return _rates(self.results)

    @cached_property
    def colours(self) -> Colours:
        return Colours(tuple(_rates(self.study or self.results)), tuple(_methods(self.study or self.results)))

    @property
    def setting(self) -> str:
        """For headers: what all jobs of the group share, and the seeds of a row."""
        extra = "".join(f", {key}={value}" for key, value in self.traits.items() if key not in HEADLINE)
        return f"{self.scene}, {counted(self.seeds, 'seed')}{extra}"

    @property
    def scene(self) -> str:
        """Models, data and epochs."""
        models, data = ({r.job.labels.get(choice, "?"): None for r in self.results} for choice in ("model", "data"))
        one = any(r.trained_epochs > r.job.epochs for r in self.results)
        epochs = counted([r.job.epochs for r in self.results], "epoch") + " a training" * one
        return f"{'/'.join(models)} on {'/'.join(data)}, {epochs}"

    @property
    def seeds(self) -> list[int]:
        """The number of seeds of each (method, rate)."""
        return list(Counter((r.method, r.job.rate) for r in self.results).values())


def is_named(overrides: Sequence[str]) -> bool:
    """Whether one of them gives the study's name."""
    return any(override.lstrip("+").startswith("name=") for override in overrides)


def group(results: list[Result]) -> list[Group]:
    """One group for each value of `Job.table`, in order of appearance, with distinct labels.

    More than MANY groups of a single job, as in a search for learning rates, become one.
    """
    split: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        split.setdefault(result.job.table, []).append(result)
    members = list(split.values())
    groups = [Group(tuple(m), t, study=tuple(results)) for m, t in zip(members, _traits(members), strict=True)]
    single = [g for g in groups if len(g.results) == 1]
    if len(single) <= MANY:
        return groups
    rest = [g for g in groups if len(g.results) > 1]
    return [*rest, _scattered(single, {"settings": "various"} if rest else {})]


def _scattered(single: list[Group], traits: dict[str, str]) -> Group:
    results = [replace(r, title=f"{r.method} ({g.label})") for g in single for r in g.results]
    return Group(tuple(results), traits, scattered=True)


def _methods(results: Sequence[Result]) -> list[str]:
    return sorted(dict.fromkeys(r.method for r in results), key=lambda method: method != "none")


def _rates(results: Sequence[Result]) -> list[float]:
    return sorted({r.job.rate for r in results})


def slug(name: str) -> str:
    """A file name that is valid on every system; where characters are lost, a hash keeps names distinct."""
    safe = re.sub(r"[^\w=,.+-]+", "_", name).rstrip("_.")
    if safe == name and len(name.encode()) <= LONGEST:
        return name
    return f"{beginning(safe, LONGEST)}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:6]}"


def counted(numbers: list[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} {noun}{'s' * (high != 1)}" if low == high else f"{low} to {high} {noun}s"


def _traits(members: list[list[Result]]) -> list[dict[str, str]]:
    """The fewest settings that tell groups apart: choices and root keys, else nested ones too, else the hash."""
    shared = [_shared(results) for results in members]
    every = dict.fromkeys(key for s in shared for key in s)
    keys = [key for key in every if len({s.get(key) for s in shared}) > 1]
    roots = [key for key in keys if "." not in key]
    # model.depth adds nothing where the model's name differs already
    leaves = [key for key in keys if "." in key and key.split(".")[0] not in roots]
    for chosen in (roots, roots + leaves):
        traits = [{key: s[key] for key in chosen if key in s} for s in shared]
        if len({tuple(t.items()) for t in traits}) == len(traits):
            return traits
    return [{**t, "id": m[0].job.comparable[:6]} for t, m in zip(traits, members, strict=True)]


def _shared(results: list[Result]) -> dict[str, str]:
    """The choices and settings on which all jobs of one group agree."""
    settings = [{**r.job.labels, **r.job.settings, **r.job.shared_code} for r in results]
    common = settings[0].items() & set.intersection(*(set(s.items()) for s in settings))
    return {k: v for k, v in settings[0].items() if (k, v) in common and k.split(".")[0] not in VARYING}

"""Which jobs may stand in one table, and what sets one table apart from the next?"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prunelab.store.result import Result

VARYING = ("prune", "rate", "seed", "name")  # may differ inside a group, so cannot tell groups apart
HEADLINE = ("model", "data", "epochs")  # every header says these
LONGEST = 80  # characters of a part of a file name
MANY = 4  # groups of a single job that have a table each; in a search every job would be one


@dataclass(frozen=True)
class Group:
    """Jobs that differ in method, rate and seed only; `scattered` ones differ in more, which their method tells."""

    results: tuple[Result, ...]
    traits: dict[str, str] = field(default_factory=dict)  # what differs from the other groups; {} when alone
    scattered: bool = False

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.traits.items())

    @property
    def suffix(self) -> str:
        """For file names: "" when there is one group."""
        return slug("-" + self.label.replace(", ", ",")) if self.traits else ""

    @property
    def methods(self) -> list[str]:
        """As first seen, the unpruned `none` before all."""
        return sorted(dict.fromkeys(r.method for r in self.results), key=lambda method: method != "none")

    @property
    def rates(self) -> list[float]:
        return sorted({r.job.rate for r in self.results})

    @property
    def setting(self) -> str:
        """What all jobs of the group share, and how many seeds each row has; for headers."""
        extra = "".join(f", {key}={value}" for key, value in self.traits.items() if key not in HEADLINE)
        return f"{self.scene}, {counted(self.seeds, 'seed')}{extra}"

    @property
    def scene(self) -> str:
        """The nets, the data and the length of training."""
        models, data = ({r.job.labels.get(choice, "?"): None for r in self.results} for choice in ("model", "data"))
        return f"{'/'.join(models)} on {'/'.join(data)}, {counted([r.job.epochs for r in self.results], 'epoch')}"

    @property
    def seeds(self) -> list[int]:
        """The number of seeds of each (method, rate)."""
        return list(Counter((r.method, r.job.rate) for r in self.results).values())


def group(results: list[Result]) -> list[Group]:
    """One group for each value of `comparable`, as first seen, with labels that are all different.

    Where many would hold a single job, as in a search for learning rates, one group holds them all.
    """
    split: dict[str, list[Result]] = {}
    for result in results:
        split.setdefault(result.job.comparable, []).append(result)
    members = list(split.values())
    groups = [Group(tuple(m), t) for m, t in zip(members, _traits(members), strict=True)]
    single = [of for of in groups if len(of.results) == 1]
    if len(single) <= MANY:
        return groups
    rest = [of for of in groups if len(of.results) > 1]
    return [*rest, _gathered(single, {"settings": "various"} if rest else {})]


def _gathered(single: list[Group], traits: dict[str, str]) -> Group:
    results = [replace(r, title=f"{r.method} ({of.label})") for of in single for r in of.results]
    return Group(tuple(results), traits, scattered=True)


def slug(name: str) -> str:
    """Safe in a file name on every system; what is lost of it tells names apart as a few digits."""
    safe = re.sub(r"[^\w=,.+-]+", "_", name).rstrip("_.")
    if safe == name and len(name) <= LONGEST:
        return name
    return f"{safe[:LONGEST]}~{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def counted(numbers: list[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} {noun}{'s' * (high != 1)}" if low == high else f"{low} to {high} {noun}s"


def _traits(members: list[list[Result]]) -> list[dict[str, str]]:
    """The few words that tell groups apart: choices and root knobs, then settings, then the hash."""
    shared = [_shared(results) for results in members]
    every = dict.fromkeys(key for s in shared for key in s)
    keys = [key for key in every if len({s.get(key) for s in shared}) > 1]
    roots = [key for key in keys if "." not in key]
    # model.depth says nothing more where the model's name already differs
    leaves = [key for key in keys if "." in key and key.split(".")[0] not in roots]
    for chosen in (roots, roots + leaves):
        traits = [{key: s[key] for key in chosen if key in s} for s in shared]
        if len({tuple(t.items()) for t in traits}) == len(traits):
            return traits
    return [{**t, "id": m[0].job.comparable[:6]} for t, m in zip(traits, members, strict=True)]


def _shared(results: list[Result]) -> dict[str, str]:
    """The choices and settings on which all jobs of one group agree."""
    described = [{**r.job.labels, **dict(_leaves(r.job.config))} for r in results]
    common = described[0].items() & set.intersection(*(set(d.items()) for d in described))
    return {k: v for k, v in described[0].items() if (k, v) in common and k.split(".")[0] not in VARYING}


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)

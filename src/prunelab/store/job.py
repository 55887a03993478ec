"""The specification of a job: the content of job.json, and the head of result.json."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

from prunelab.core.text.printable import printable
from prunelab.store.identity import DEFAULTS, comparable, digest, flat, observes, of_method, versions
from prunelab.store.naming import variant
from prunelab.store.own_code import is_own, own_code, targets

LARGEST = sys.float_info.max
SCHEMA = 1  # of job.json and result.json: the newest layout that this version writes and reads


class NewerSchema(ValueError):
    """A file that a newer version of prunelab wrote; nothing of it may be taken for absent and overwritten."""


@dataclass(frozen=True)
class Job:
    """One training with its pruning, as the configuration describes it.

    What depends on the machine and the data ("auto", the images) is in `values`, and so in `identity`, once the job is
    `settled`.
    """

    name: str  # of its study
    method: str  # the file chosen in conf/prune
    rate: float
    seed: int
    overrides: tuple[str, ...]  # as typed
    labels: Mapping[str, str]  # the files chosen in conf/model, data and optim
    config: Mapping[str, Any]  # resolved, plain
    values: Mapping[str, Any]  # all that can change the result, by dotted key
    identity: str = ""  # equal for jobs with equal values
    comparable: str = ""  # equal for jobs that differ in method, rate and seed only
    asked: str = ""  # equal where the same was typed and the YAML files are the same
    versions: Mapping[str, str | None] = field(default_factory=dict)
    config_dir: str = ""  # of the user's YAML files; relative to the folder of the command where it lies in it
    schema: int = SCHEMA

    def settled(self, values: Mapping[str, Any], asked: str) -> Self:
        """Adds `values` that the configuration left open, and what follows from all values."""
        known = {**self.values, **values}
        return replace(
            self,
            values=known,
            identity=digest(known),
            comparable=digest(comparable(known)),
            asked=asked,
            versions={**versions(), **own_code(known)},
        )

    def dense_pretraining(self) -> Self:
        """The dense pretraining of this job, without what comes after it.

        The checkpoint at its end holds snapshots of step 0 and of step `rewind`, whatever the job restores.
        """
        rewind = {"_target_": "prunelab.callbacks.rewind.Rewind", "to": self.config["rewind"], "control": "reinit"}
        config = {
            **self.config,
            "rate": 0.0,
            "rounds": 1,
            "round_to": 1,
            "budget": DEFAULTS["budget"],
            "pretrained": None,
            "optim": {**self.config["optim"], "finetune": 0.0},  # comes after it
            "logger": None,  # it would write into the folder of whichever job comes first
            "prune": {"rewind": rewind},
        }
        others = {name: c for name, c in config.pop("callbacks", {}).items() if c}
        kept = {name: c for name, c in others.items() if not observes(c["_target_"])}
        for later in ("distill", "rates"):
            config.pop(later, None)
        config |= {"callbacks": kept} if kept else {}
        return replace(self, method="none", rate=0.0, config=config, values=flat(config))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What its command has after `python -m train`."""
        return (*([f"--config-dir={self.config_dir}"] if self.config_dir else []), *self.overrides)

    def changed(self, now: Mapping[str, str | None]) -> list[str]:
        """What is no longer as it was when the job was settled, as far as it says.

        That is prunelab, beside the versions `now`, and the modules of the user's own classes. Changes of a checkout
        that are not committed look alike.
        """
        key = "commit" if self.versions.get("commit") and now.get("commit") else "prunelab"  # the version of a package
        then = printable(self.versions.get(key) or now[key])
        ours = [f"prunelab (then {then}, now {now[key]})"] if then != now[key] else []
        own = [target for target, code in own_code(self.values).items() if self.versions.get(target, code) != code]
        return ours + own

    @property
    def code(self) -> dict[str, str]:
        """The digests of the modules of the user's own classes, by "code of TARGET"."""
        return self._code(self.values)

    @property
    def shared_code(self) -> dict[str, str]:
        """Those of the classes that all methods share: network, data, optimizer, callbacks."""
        return self._code(comparable(self.values))

    def _code(self, values: Mapping[str, Any]) -> dict[str, str]:
        own = sorted(filter(is_own, set(targets(values))))
        return {f"code of {printable(t)}": printable(self.versions.get(t) or "not recorded") for t in own}

    @property
    def table(self) -> tuple[str, ...]:
        """Equal for jobs whose results may stand in one table."""
        return self.comparable, *map(" ".join, self.shared_code.items())

    @property
    def variant(self) -> str:
        """The method with its own settings, where it was given any: "usp (scope=global)"."""
        return variant(self.method, self.overrides)

    @property
    def own_settings(self) -> dict[str, Any]:
        """What is its method's of `values`, by dotted key, and the digests of the user's classes in it."""
        own = of_method(self.values)
        return own | self._code(own)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Every value of `config` that can change the result, as text, by dotted key."""
        return {printable(key): printable(value) for key, value in flat(self.config).items()}

    @property
    def epochs(self) -> int:
        return int(self.config["epochs"])

    @property
    def pretrained(self) -> str | None:
        """A path, "auto" or None."""
        return self.config["pretrained"]

    @property
    def devices(self) -> int:
        return int(self.config["trainer"]["devices"])

    @property
    def accelerator(self) -> str:
        return str(self.config["trainer"]["accelerator"])

    @property
    def batches_a_step(self) -> int:
        """Batches whose gradients are accumulated for one optimizer step."""
        return int(self.config["trainer"].get("accumulate_grad_batches", 1))

    @property
    def logs_events(self) -> bool:
        """Whether it writes event files for TensorBoard."""
        return any(str(logger["_target_"]).endswith(("EpochLogger", "TensorBoardLogger")) for logger in self.loggers)

    @property
    def loggers(self) -> list[dict[str, Any]]:
        """What makes each of its loggers; 0.1.0 had one, without a name."""
        node = self.config.get("logger") or {}
        return [node] if "_target_" in node else list(node.values())

    def to_json(self) -> dict[str, Any]:
        head = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "config_dir" or self.config_dir}
        return {"schema": head.pop("schema")} | head | {"overrides": list(self.overrides)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises ValueError for a newer schema or an impossible value, LookupError and TypeError for damage."""
        if raw["schema"] > SCHEMA:
            raise NewerSchema(f"schema {raw['schema']} is newer than {SCHEMA}: update prunelab to read it")
        values = dict(raw["values"])
        job = cls(
            name=printable(raw["name"]),
            method=printable(raw["method"]),
            rate=fraction("rate", raw["rate"]),
            seed=int(number("seed", raw["seed"])),
            overrides=tuple(map(printable, raw["overrides"])),
            labels={group: printable(file) for group, file in raw["labels"].items()},
            config=dict(raw["config"]),
            values=values,
            identity=str(raw["identity"]),
            comparable=digest(comparable(values)) if values else str(raw["comparable"]),  # by the keys of this version
            asked=str(raw["asked"]),
            versions=versions_from_json(raw["versions"]),
            config_dir=printable(raw.get("config_dir", "")),
            schema=int(raw["schema"]),
        )
        _ = job.settings  # cannot be read where `config` is damaged
        return job


def number(name: str, value: Any) -> float:
    """Returns `value`. Raises ValueError for anything but a number, and for one that no float can hold."""
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > LARGEST):
        raise ValueError(f"{name}={value!r:.40}: expected a number")
    return value


def versions_from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Text, numbers and None by name. Raises ValueError or TypeError for anything else."""
    return {
        printable(name): value if value is None else printable(value) if isinstance(value, str) else number(name, value)
        for name, value in dict(raw).items()
    }


def fraction(name: str, value: float) -> float:
    """Returns `value`. Raises ValueError outside [0, 1]."""
    if not 0 <= value <= 1:  # also refuses nan
        raise ValueError(f"{name}={value}: expected a fraction in [0, 1]")
    return value


def differing(before: Job, now: Job, but: Sequence[str] = ()) -> list[str]:
    """The keys of `values` in which two jobs differ, except those in `but`."""
    keys = sorted({*before.values, *now.values} - {*but})
    return [key for key in keys if before.values.get(key) != now.values.get(key)]

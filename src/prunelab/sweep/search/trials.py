"""Optuna's record of a search, kept in the study's folder: which trials are next, and how earlier ones ended."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from prunelab.sweep.search.objectives import Direction
from prunelab.sweep.search.space import rounded

Begun = tuple[int, dict[str, Any]]  # a trial's number and its values


class Rounding(TPESampler):
    """TPE that rounds values before Optuna records them: override, folder name and record say the same."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        values = super().sample_relative(study, trial, search_space)
        return {key: rounded(value, search_space[key]) for key, value in values.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return rounded(super().sample_independent(study, trial, param_name, param_distribution), param_distribution)


class Trials:
    """The trials of one search. Killed and opened again, it continues as if nothing had happened."""

    def __init__(self, log: Path, settings: dict[str, Any], directions: list[Direction]) -> None:
        """`log` must be this process's alone. Raises ValueError where it holds a search with other `settings`."""
        _mend(log)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(log)))
        self.study = optuna.create_study(
            storage=storage, study_name="search", directions=directions, load_if_exists=True
        )
        earlier = self.study.user_attrs.get("asked")
        if earlier is None:
            self.study.set_user_attr("asked", settings)
        elif differ := [key for key in settings if earlier.get(key, settings[key]) != settings[key]]:
            raise ValueError(f"{log} holds another search, with other {differ[0]}: choose another name=")
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if not _whole(trial, settings):  # killed between two of its values: nothing ran
                self.study.tell(trial.number, state=TrialState.FAIL)
        self.settings = settings

    def next(self, space: dict[str, BaseDistribution], total: int, jobs: int, seed: int) -> list[Begun]:
        """The trials to run together: first those that a killed command left; [] when there are `total`.

        Batches end at multiples of `jobs`, and each choice has its own random numbers, so that a kill
        does not change what is chosen.
        """
        begun = self.begun()
        batch = [(t.number, t.params) for t in begun if t.state == TrialState.RUNNING]
        n = len(begun)
        while n < total and (not batch or n % jobs):
            self.study.sampler = Rounding(seed=zlib.crc32(f"{seed},{n}".encode()), constant_liar=jobs > 1)
            trial = self.study.ask(space)
            batch.append((trial.number, trial.params))
            n += 1
        return batch

    def begun(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.trials if _whole(trial, self.settings)]

    def record(self, number: int, values: Sequence[float] | None) -> None:
        """Records the objectives of a trial; None for a job that failed."""
        state = TrialState.COMPLETE if values else TrialState.FAIL
        self.study.tell(number, values, state=state)

    def front(self) -> list[FrozenTrial]:
        """The finished trials that no other trial dominates."""
        finished = self.study.get_trials(states=(TrialState.COMPLETE,))
        return self.study.best_trials if finished else []


def _whole(trial: FrozenTrial, settings: dict[str, Any]) -> bool:
    return trial.params.keys() == settings["space"].keys()


def _mend(log: Path) -> None:
    """Removes what a killed command left: Optuna's own lock, and half a line."""
    log.with_name(log.name + ".lock").unlink(missing_ok=True)
    if log.exists():
        text = log.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with log.open("r+b") as file:
                file.truncate(whole)

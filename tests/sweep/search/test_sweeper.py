"""The Optuna sweeper with Hydra, a launcher and stand-in jobs that write a result.json at once."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from prunelab.job.conf import conf_dir
from prunelab.store.lock import held
from prunelab.store.signals import Interrupted, Killed
from prunelab.sweep.search import sweeper

Job = Callable[[DictConfig], float]
WHOLE = json.loads((Path(__file__).parents[2] / "store" / "result-0.1.0.json").read_text())
SPACE = ["prune=usp", "rate=interval(0.2,0.95)", "seed=0,1"]


def run(cfg: DictConfig) -> float:
    folder = Path(HydraConfig.get().runtime.output_dir)
    history = [WHOLE["history"][0] | {"val_acc": 1 - cfg.rate**2}]
    cost = WHOLE["cost"] | {"pruned": WHOLE["cost"]["pruned"] | {"macs": round(1000 * (1 - cfg.rate))}}
    (folder / "result.json").write_text(json.dumps(WHOLE | {"history": history, "cost": cost}))
    return 0.1


@pytest.fixture
def search(tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., optuna.Study]:
    """Runs a search in tmp_path/outputs/s; the report is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeper, "publish_if_any", lambda _: None)

    def do(*overrides: str, job: Job = run) -> optuna.Study:
        data = ["data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache"]
        args = ["hydra/sweeper=optuna", "~hydra.callbacks.study", "name=s", *data, *overrides]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            GlobalHydra.instance().hydra.multirun("train", job, args)  # type: ignore[union-attr]
        return recorded(tmp_path / "outputs" / "s")

    return do


def recorded(folder: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "search.log")),
    )
    return optuna.load_study(study_name="search", storage=storage)


def test_optuna_records_the_objectives_of_the_results(search, tmp_path: Path) -> None:
    study = search("hydra.sweeper.n_trials=5", *SPACE)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(study.trials) == 5
    for trial in study.trials:
        name = f"prune=usp,rate={trial.params['rate']},seed={trial.params['seed']},data=image_folder,data.val=20"
        result = json.loads((tmp_path / "outputs" / "s" / name / "result.json").read_text())
        assert trial.values == [result["history"][-1]["val_acc"], result["cost"]["pruned"]["macs"]]


def test_a_failed_job_is_recorded_and_the_search_continues(search) -> None:
    def fails(cfg: DictConfig) -> float:
        if cfg.seed:
            raise RuntimeError("diverged")
        return run(cfg)

    states = {t.params["seed"]: t.state.name for t in search("hydra.sweeper.n_trials=8", *SPACE, job=fails).trials}
    assert states == {"0": "COMPLETE", "1": "FAIL"}


def test_when_all_jobs_fail_the_command_does(search) -> None:
    with pytest.raises(SystemExit, match="all 2 trials failed"):
        search("hydra.sweeper.n_trials=2", *SPACE, job=lambda _: 1 / 0)


def test_what_a_killed_command_left_is_run_first_and_nothing_twice(search, tmp_path: Path) -> None:
    ran: list[float] = []

    def killed(cfg: DictConfig) -> float:
        ran.append(cfg.rate)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run(cfg)

    with pytest.raises(SystemExit, match="130"):
        search("hydra.sweeper.n_trials=5", *SPACE, job=killed)
    assert [t.state.name for t in recorded(tmp_path / "outputs" / "s").trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    rest: list[float] = []
    study = search("hydra.sweeper.n_trials=5", *SPACE, job=lambda cfg: rest.append(cfg.rate) or run(cfg))
    assert [*ran[:2], *rest] == [trial.params["rate"] for trial in study.trials]
    assert rest[0] == ran[2]
    assert len(study.trials) == 5


def test_a_stopped_job_has_not_failed_and_is_resumed(search) -> None:
    ran: list[float] = []

    def stopped(cfg: DictConfig) -> float:
        ran.append(cfg.rate)
        if len(ran) == 2:
            raise Interrupted("stopped")
        return run(cfg)

    with pytest.raises(SystemExit, match="1 jobs were interrupted; the same command"):
        search("hydra.sweeper.n_trials=4", *SPACE, job=stopped)
    rest: list[float] = []
    study = search("hydra.sweeper.n_trials=4", *SPACE, job=lambda cfg: rest.append(cfg.rate) or run(cfg))
    assert rest[0] == ran[1]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


@pytest.mark.parametrize(("times", "state"), [(1, "COMPLETE"), (99, "FAIL")])
def test_a_killed_job_is_tried_once_more_and_the_search_goes_on(search, times: int, state: str) -> None:
    ran: list[float] = []

    def killed(cfg: DictConfig) -> float:
        ran.append(cfg.rate)
        if cfg.rate == ran[0] and len(ran) <= times:
            raise Killed("killed by SIGKILL")
        return run(cfg)

    study = search("hydra.sweeper.n_trials=3", *SPACE, job=killed)
    assert [trial.state.name for trial in study.trials] == [state, "COMPLETE", "COMPLETE"]
    assert ran.count(ran[0]) == 2


def test_equal_suggestions_of_a_batch_are_one_job(search) -> None:
    ran: list[int] = []
    study = search(
        "hydra.sweeper.n_trials=6", "hydra.sweeper.jobs=6", "prune=usp", "rate=0.5", "seed=0,1",
        job=lambda cfg: ran.append(cfg.seed) or run(cfg),
    )  # fmt: skip
    assert sorted(ran) == [0, 1]
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 6


def test_another_search_in_the_same_study_is_refused(search) -> None:
    search("hydra.sweeper.n_trials=1", *SPACE)
    for overrides, changed in (
        ([*SPACE, "rate=interval(0.3,0.95)"], "space"),
        ([*SPACE, "epochs=3"], "fixed overrides"),
        ([*SPACE, "hydra.sweeper.objectives=[accuracy,bops]"], "objectives"),
    ):
        with pytest.raises(SystemExit, match=f"other {changed}: choose another name="):
            search(*overrides)
    assert len(search("hydra.sweeper.n_trials=2", "logger=none", *SPACE).trials) == 2  # results do not depend on it


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rate=0.5"], "nothing to search over"),
        (["prune=usp", "rate=interval(20,95)"], "rate=20: expected a fraction in .*rate=0.2"),
        (["hydra.sweeper.objectives=[flops]", *SPACE], "flops is not one of accuracy, macs"),
        (["data.root=nowhere", *SPACE], "data.root=nowhere: no such folder"),
        (["hydra.sweeper.n_trials=0", *SPACE], "hydra.sweeper.n_trials=0: expected at least 1"),
    ],
)
def test_a_mistake_is_reported_before_any_job(search, overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"train: .*{message}"):
        search(*overrides)
    assert list(tmp_path.glob("outputs/s/*/result.json")) == []


def test_a_key_that_does_not_exist_leaves_no_search_behind(search, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="optimiser"):
        search(*SPACE, "optimiser.lr=interval(0.1,0.2)")
    assert not (tmp_path / "outputs" / "s" / "search.log").exists()


def test_without_optuna_the_message_says_how_to_install_it(search, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("optuna", "prunelab.sweep.search"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match="needs Optuna: pip install 'optuna>=4'"):
        search(*SPACE)


def test_an_experiment_file_can_hold_the_space(search, tmp_path: Path) -> None:
    conf = tmp_path / "more" / "experiment"
    conf.mkdir(parents=True)
    (conf / "front.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n  - override /prune: usp\n"
        "hydra:\n  sweeper:\n    n_trials: 3\n    params:\n      rate: interval(0.2,0.9)\n"
    )
    study = search("experiment=front", f"hydra.searchpath=[file://{tmp_path}/more]", "seed=1")
    assert [set(trial.params) for trial in study.trials] == [{"rate"}] * 3


def test_a_search_goes_on_with_the_values_of_its_first_trials_alone(search, tmp_path: Path) -> None:
    """Those of a YAML file too, which the command does not show."""
    conf = tmp_path / "more" / "experiment"
    conf.mkdir(parents=True)
    (conf / "front.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.1\n")
    command = ["experiment=front", f"hydra.searchpath=[file://{tmp_path}/more]", *SPACE]
    search(*command, "hydra.sweeper.n_trials=1")
    (conf / "front.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.2\n")
    with pytest.raises(SystemExit, match="another search, with other values in YAML files: choose another name="):
        search(*command, "hydra.sweeper.n_trials=2")
    (conf / "front.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.1  # as before\n")
    assert len(search(*command, "hydra.sweeper.n_trials=2").trials) == 2


def test_a_second_command_on_the_same_search_is_refused(search, tmp_path: Path) -> None:
    with held(tmp_path / "outputs" / "s" / ".search.lock"), pytest.raises(SystemExit, match="is in use by process"):
        search("hydra.sweeper.n_trials=1", *SPACE)
    assert len(search("hydra.sweeper.n_trials=1", *SPACE).trials) == 1


def test_hydra_finds_the_sweeper_without_importing_optuna() -> None:
    code = (
        "import sys; from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper\n"
        "print([p.__name__ for p in Plugins.instance().discover(Sweeper)], 'optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "OptunaSweeper" in done.stdout
    assert done.stdout.rstrip().endswith("False")


def test_a_trial_with_impossible_values_fails_and_the_search_continues(search) -> None:
    """Only the ends of the space are checked before; a job inside of it may be impossible."""

    def refuses(cfg: DictConfig) -> float:
        if not cfg.prune:
            raise ValueError("rate with prune=none")
        return run(cfg)

    study = search("hydra.sweeper.n_trials=6", "prune=none,usp", "rate=interval(0,0.9)", job=refuses)
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "FAIL"}
    assert len(study.trials) == 6

"""The plan of a sweep, whose study may hold damaged files of earlier ones."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compose import compose_job, job_from
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus

from prunelab.job.conf import conf_dir
from prunelab.store import own_code
from prunelab.store.failure import Failed, one_line
from prunelab.store.folder import RunDir
from prunelab.store.identity import versions
from prunelab.store.job import Job
from prunelab.store.lock import Busy
from prunelab.store.result import read
from prunelab.store.signals import Interrupted
from prunelab.sweep import plan as sweep
from prunelab.sweep.plan import PlannedJob, _finished

WHOLE = Path(__file__).parents[1] / "store" / "result-0.1.0.json"


@pytest.mark.parametrize("change", [{"config": {"pretrained": 5}}, {"config": {"pretrained": "\0"}}, {"config": {}}])
def test_a_damaged_result_hides_no_finished_job(change: dict[str, Any], tmp_path: Path) -> None:
    whole = json.loads(WHOLE.read_text())
    config = whole["config"] | change["config"] if change["config"] else {}
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    shutil.copy(WHOLE, tmp_path / "b" / "result.json")
    (tmp_path / "a" / "result.json").write_text(json.dumps(whole | {"asked": "other", "config": config}))
    (tmp_path / "c" / "result.json").mkdir()
    assert list(_finished(tmp_path)) == [whole["asked"]]


def test_a_failure_without_a_reason_is_summarised(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text('{"host": "here"}')
    assert PlannedJob((), RunDir(tmp_path)).reason == "failure.json does not say why"


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        (Failed("no luck (exit status 3)"), "failed"),
        (Interrupted("stopped"), "interrupted"),
        (Busy("by 5"), "interrupted"),
    ],
)
def test_a_job_that_ended_without_a_word_has_failed(problem: Exception, state: str, tmp_path: Path) -> None:
    """The folder, in which some job had begun, may be another's."""
    (tmp_path / ".lock").touch()
    job = PlannedJob((), RunDir(tmp_path))
    sweep.record_returns([job], [JobReturn(status=JobStatus.FAILED, _return_value=problem)])
    assert (job.state, job.reason, job.folder.state()) == (state, one_line(problem), "interrupted")


def test_outside_a_terminal_a_reason_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = Failed(f"ValueError: {'one thing and another ' * 20}at last")
    assert not sweep.print_summary([PlannedJob(("seed=0",), RunDir(tmp_path / "study" / "job"), problem=problem)])
    assert str(problem) in capsys.readouterr().out


def test_jobs_that_are_left_are_rehearsed_and_finished_ones_of_other_yaml_are_not(tmp_path: Path, monkeypatch) -> None:
    rehearsed: list[list[Job]] = []
    monkeypatch.setattr(sweep, "refuse_impossible", lambda jobs, _: rehearsed.append(list(jobs)))
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(WHOLE, whole / "result.json")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        fixed = ["data=shapes", "trainer=cpu", f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN"]
        config, loader = compose("train", fixed, return_hydra_config=True), GlobalHydra.instance().config_loader()
        jobs = sweep.plan([["seed=0"], ["seed=1"]], loader, config)
        assert [[job.seed for job in group] for group in rehearsed] == [[0, 1]]
        for planned in jobs:
            rehearsed.clear()
            assert planned.job
            job = planned.job.settled({"precision": "32-true", "data.fingerprint": "0"}, asked="with other YAML")
            planned.folder.path.mkdir()
            planned.folder.finish(replace(read(whole), job=job))
            sweep.plan([["seed=0"], ["seed=1"]], loader, config)
            assert [[job.seed for job in group] for group in rehearsed] == ([[1]] if job.seed == 0 else [])


def test_a_folder_named_by_its_number_keeps_it_when_others_are_finished(tmp_path: Path, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(sweep, "refuse_impossible", lambda jobs, _: None)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        fixed = ["data=shapes", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=run${hydra.job.num}"]
        config = compose("train", [*fixed, "hydra.mode=MULTIRUN"], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        jobs = sweep.plan([["seed=0"], ["seed=1"]], loader, config)
        assert [planned.folder.path.name for planned in jobs] == ["run0", "run1"]
        job = replace(jobs[0].job, versions=versions())
        done = {sweep.overrides_digest(["seed=0"], sweep.yaml_digest(config.hydra)): (jobs[0].folder, 0.9, job)}
        monkeypatch.setattr(sweep, "_finished", lambda study: done)
        first, second = sweep.plan([["seed=0"], ["seed=1"]], loader, config)
        assert (first.accuracy, second.folder) == (0.9, jobs[1].folder)
        assert "changed since" not in caplog.text
        done = {
            key: (folder, 0.9, replace(job, versions={"commit": "0a1b2c"})) for key, (folder, _, job) in done.items()
        }
        sweep.plan([["seed=0"], ["seed=1"]], loader, config)
        assert "prunelab (then 0a1b2c, now " in caplog.text
        assert sweep.folder_of(second.overrides, loader, config) == jobs[1].folder  # as launchers find it


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("precision", ["auto", "bf16-mixed"]),
        ("trainer.devices", [1, 2]),
        ("pretrained", ["null", __file__]),
        ("data.root", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("finished", [(), ("one",), ("two",)])
def test_two_jobs_that_differ_in_what_names_no_folder_are_refused(
    key: str, values: list[object], finished: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them was left out, unsaid. A file with the same values is the same job."""
    monkeypatch.setattr(sweep, "refuse_impossible", lambda jobs, _: None)
    (tmp_path / "experiment").mkdir()
    for name, value in zip(("one", "two"), values, strict=True):
        text = f"# @package _global_\n{key.replace('.', f':{chr(10)}  ')}: {value}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    shutil.copy(tmp_path / "experiment" / "one.yaml", tmp_path / "experiment" / "same.yaml")
    data = "data=image_folder" if key == "data.root" else "data=shapes"
    fixed = [data, "trainer=ddp", "trainer.accelerator=cpu"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = [f"hydra.searchpath=[{tmp_path.as_uri()}]", f"hydra.sweep.dir={tmp_path}/study", "hydra.mode=MULTIRUN"]
        config = compose("train", hydra, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        jobs = {name: [*fixed, f"experiment={name}"] for name in ("one", "two", "same")}
        planned = {name: sweep.plan([jobs[name]], loader, config)[0] for name in jobs}
        digest = sweep.yaml_digest(config.hydra)
        done = {
            sweep.overrides_digest(jobs[name], digest): (planned[name].folder, 0.9, planned[name].job)
            for name in finished
        }
        monkeypatch.setattr(sweep, "_finished", lambda study: done)
        with pytest.raises(
            ValueError,
            match=f": experiment=one and experiment=two share this folder, .* in what they differ, {key}; run each",
        ):
            sweep.plan([jobs["one"], jobs["two"]], loader, config)
        assert len(sweep.plan([jobs["one"], jobs["same"]], loader, config)) == 1


def test_finished_jobs_of_code_that_has_changed_since_are_skipped_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep, "refuse_impossible", lambda jobs, _: None)
    monkeypatch.syspath_prepend(tmp_path)
    (code := tmp_path / "edited.py").write_text("# first")
    (study := tmp_path / "study").mkdir()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        fixed, job = [f"hydra.sweep.dir={study}", "hydra.mode=MULTIRUN"], ["data=shapes", "model._target_=edited.Net"]
        config, loader = compose("train", fixed, return_hydra_config=True), GlobalHydra.instance().config_loader()
        [planned] = sweep.plan([job], loader, config)
        assert planned.job
        asked = sweep.overrides_digest(job, sweep.yaml_digest(config.hydra))
        settled = planned.job.settled({"pretrained": None}, asked)
        (tmp_path / "result.json").write_bytes(WHOLE.read_bytes())
        planned.folder.path.mkdir()
        planned.folder.finish(replace(read(tmp_path), job=settled))
        for text, said in (("# first", False), ("# second", True)):
            caplog.clear()
            code.write_text(text)
            own_code._content.cache_clear()  # as in another process
            assert sweep.plan([job], loader, config)[0].accuracy is not None
            assert ("edited.Net: changed since jobs finished" in caplog.text) == said


def test_only_a_method_that_takes_a_rate_is_told_that_it_has_none(tmp_path: Path) -> None:
    usp = job_from(compose_job(["data=shapes", "prune=usp"], tmp_path))
    assert sweep.unpruned([usp]) == "; prune=usp without rate: nothing will be pruned, add rate=0.8"
    dense = job_from(compose_job(["data=shapes", "prune=usp", "rate=0"], tmp_path))
    assert sweep.unpruned([dense]) == ""  # it was asked for
    of_its_own = usp.values | {"prune.pruning.pruner.schedule.rate": 0.5}
    assert sweep.unpruned([replace(usp, method="hold", values=of_its_own)]) == ""
    for whole in ("scan", "sensitivity", "binary"):  # binary takes one, and is a method without it
        assert sweep.unpruned([job_from(compose_job(["data=shapes", f"prune={whole}"], tmp_path))]) == ""


def test_the_folder_of_a_single_job_is_refused(tmp_path: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        fixed = [f"hydra.run.dir={tmp_path}/one", "data=shapes", "hydra.mode=MULTIRUN"]
        config, loader = compose("train", fixed, return_hydra_config=True), GlobalHydra.instance().config_loader()
        with pytest.raises(ValueError, match=r"hydra.run.dir=.*/one: that is of a single job; drop -m, or "):
            sweep.plan([["seed=0"]], loader, config)


def test_a_launcher_that_a_file_chooses_in_vain_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "own.yaml"
    file.write_text("# @package _global_\ndefaults:\n  - override /hydra/launcher: slurm\n")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        fixed = [f"hydra.searchpath=[{tmp_path.as_uri()}]", "experiment=own", "data=shapes", "hydra.mode=MULTIRUN"]
        config, loader = compose("train", fixed, return_hydra_config=True), GlobalHydra.instance().config_loader()
        with pytest.raises(ValueError, match="experiment=own: Hydra ignores hydra/launcher: slurm"):
            sweep.plan([["experiment=own", "seed=0"]], loader, config)

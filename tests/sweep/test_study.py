"""The train command: a sweep up to its table, and mistakes reported in one line before any job."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compose import compose_job, tiny_job
from forked import Command, killed, train
from hydra.core.hydra_config import HydraConfig

from prunelab.job.conf import conf_dir
from prunelab.sweep.study import refuse_sweep_settings

SHAPES = ["data=shapes", "data.train=200", "data.val=10", "data.test=10", "model=resnet8"]


@pytest.fixture
def tiny(tiny_images: Path) -> list[str]:
    return [*tiny_job(tiny_images), "epochs=2", "name=tiny"]


def test_a_sweep_ends_with_a_table_and_figures_and_is_not_run_twice(tiny: list[str], tmp_path: Path) -> None:
    sweep = ["-m", "prune=usp,sp", "rate=0,0.5", *tiny]
    status, output = train(*sweep, cwd=tmp_path, report=True)
    assert status == 0, output
    study = tmp_path / "outputs" / "tiny"
    results = sorted(study.glob("*/result.json"))
    assert [path.parent.name.partition(",data")[0] for path in results] == [
        "prune=sp,rate=0,seed=0", "prune=sp,rate=0.5,seed=0", "prune=usp,rate=0,seed=0", "prune=usp,rate=0.5,seed=0",
    ]  # fmt: skip
    for name in ("summary.csv", "summary.md", "figures/accuracy_over_rate.png", "figures/accuracy_over_epochs-usp.svg"):
        assert (study / name).stat().st_size > 100
    assert "sparsity" in output
    assert re.search(r"^\S+ all with data=image_folder .*name=tiny$", output, re.M)
    assert re.search(r"^\S+ #1 of 4: prune=usp rate=0$", output, re.M)
    stamps = [path.stat().st_mtime_ns for path in results]
    status, output = train(*sweep, cwd=tmp_path)
    assert status == 0, output
    skipped = re.findall(r"already finished, skipped: test [\d.]+ %  (.*)$", output, re.M)
    assert skipped == ["prune=usp rate=0", "prune=usp rate=0.5", "prune=sp rate=0", "prune=sp rate=0.5"]
    assert stamps == [path.stat().st_mtime_ns for path in results]


def test_a_failing_job_costs_the_others_neither_their_results_nor_the_table(tiny: list[str], tmp_path: Path) -> None:
    lr = "optim.optimizer.lr=0.1,1e30"
    status, output = train("-m", "prune=usp", "rate=0.5", *tiny, "epochs=1", lr, cwd=tmp_path, report=True)
    assert status == 1
    assert len(list((tmp_path / "outputs" / "tiny").glob("*/result.json"))) == 1
    assert (tmp_path / "outputs" / "tiny" / "summary.csv").exists()
    assert re.search(r"^Excluded: optim.optimizer.lr=1e\+?30: failed: ValueError:", output, re.M)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["-m", "rate=0,0.5,50", "prune=usp"],
            "train: rate=50: expected a fraction in [0, 1); for 50 % write rate=0.5",
        ),
        (
            ["-m", "experiment=demo", "rate=0,7"],
            "train: rate=7: expected a fraction in [0, 1); for 7 % write rate=0.07",
        ),
        (["rate=1.5", "prune=usp"], "train: rate=1.5: expected a fraction in [0, 1)"),
        (["-m", "every=0s,5m"], "train: every=0s: expected steps"),
        (["-m", "hydra.launcher.devices=0"], "train: hydra.launcher.devices=0: expected auto, or GPUs"),
        (
            ["-m", "rate=0", *SHAPES, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
            "train: trainer.devices=2: each process takes a slot, and the CPU has hydra.launcher.jobs=1",
        ),
        (
            ["-m", *SHAPES, "seed=5,6", "hydra.launcher.devices=[0,7]"],
            "train: hydra.launcher.devices=[0, 7]: this machine has no GPU 0, 7; name others, or drop it",
        ),
        (["-m", *SHAPES, "seed=0,4294967296"], "train: seed=4294967296: expected a whole number of"),
        (
            ["-m", *SHAPES, "prune=usp,nm", "rate=0.5,0.3"],
            "train: rate=0.3: groups of m=4 weights allow 0.25, 0.5, 0.75 (job prune=nm rate=0.3)\n",
        ),
        ([*SHAPES, "-m", "seed=0,1", "optim.batch_size=64,100000"], "lower it (job seed=0 optim.batch_size=100000)\n"),
        (["-m", *SHAPES, "prune=usp,none", "prune.pruning.pruner.seed=1"], "there is no such value"),
        (["-m", *SHAPES, "seed=0,1", "trainer=gpu"], "train: trainer.accelerator=gpu: there is none here"),
        ([*SHAPES, "optim.batch_size=100000"], "train: batch_size=100000: more than the "),
        (["-m", "experiment=demo,scan"], "train: hydra.sweeper.params={"),
        (
            ["-m", "hydra/sweeper=optuna", *SHAPES, "prune=nm", "rate=interval(0.3,0.4)"],
            "train: rate=0.3: groups of m=4",
        ),
        (["prune=magic"], "train: prune=magic: there is none; expected one of binary, "),
        (["model=resnet9000"], "train: model=resnet9000: there is none; did you mean resnet"),
        (
            [*SHAPES, "hydra/launcher=pool"],
            "train: hydra/launcher=pool: there is one job, which Hydra runs here; add -m",
        ),
        (["-m", *SHAPES, "+lr=0.1,0.001"], "train: lr: nothing reads it; did you mean optim.optimizer.lr?"),
        (
            [*SHAPES, "prune=usp", "rate=0.5", "+prune.pruning.pruner.skipp=[]"],
            "train: prune.pruning.pruner.skipp: prunelab.core.pruner.Pruner does not take it; did you mean",
        ),
        (["-m", *SHAPES, "model=vgg11", "+model.widht=2,3"], "train: model.widht: prunelab.models.vgg.vgg11 does not "),
        (["-m", "data=image_folder", "data.root=nowhere", "seed=0,1"], "train: data.root=nowhere: no such folder"),
        (["-m", "data=cifar10", "data.url=http://127.0.0.1:9/x", "seed=0,1"], "data=image_folder data.root=DIR"),
    ],
)
def test_a_mistake_is_reported_before_any_job_and_nothing_is_written(
    args: list[str], message: str, tmp_path: Path
) -> None:
    cache = f"data.cache={tmp_path}/cache" if "data=" in str(args) else "seed=0"
    if {"trainer=gpu", "hydra.launcher.devices=[0,7]"} & {*args} and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, output = train(*args, cache, cwd=tmp_path)
    assert status == 1
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "outputs").exists()


def test_an_argument_that_no_class_takes_is_refused_before_the_first_line(tmp_path: Path) -> None:
    status, output = train(*SHAPES, "+augment.padd=1", cwd=tmp_path)
    assert (status, output) == (
        1,
        "train: augment.padd: prunelab.data.augment.PadCropFlip does not take it; did you mean augment.pad?\n",
    )


def test_a_job_that_fails_alone_says_why_in_its_last_line(tiny: list[str], tmp_path: Path) -> None:
    status, output = train(*tiny, "epochs=1", "optim.optimizer.lr=1e30", cwd=tmp_path)
    assert status == 1
    assert re.search(
        r"^train: ValueError: epoch 1: .* the traceback is in .*outputs/tiny/.*/failure.json$", output, re.M
    )
    assert "Traceback" not in output
    assert "Error executing" not in output
    output = train(*tiny, "epochs=1", "optim.optimizer.lr=1e30", "--traceback", cwd=tmp_path)[1]
    assert output.count("Traceback") == 1
    assert "ValueError: epoch 1" in output


def checks_another() -> None:
    """As if each job had been composed from other files when the sweep was checked."""
    from prunelab.sweep import plan

    check = plan.planned_as
    plan.planned_as = lambda cfg, folder: check(cfg, folder).replace("='", "='0")


@pytest.mark.parametrize("slots", [1, 2])
def test_a_job_that_is_not_the_one_its_sweep_checked_trains_nothing(slots: int, tmp_path: Path) -> None:
    command = ["-m", *SHAPES, "epochs=1", "seed=0,1", "name=tiny", f"hydra.launcher.jobs={slots}"]
    sweep = Command(*command, cwd=tmp_path, before=checks_another)
    assert sweep.ended() == 1
    assert sweep.output.count("files have changed since the sweep began: put them back, or begin the sweep again") >= 2
    assert not list(tmp_path.glob("outputs/tiny/*/job.json"))


def test_a_value_that_only_the_running_job_has_is_no_change(tiny: list[str], tmp_path: Path) -> None:
    saves = "_target_:lightning.pytorch.callbacks.ModelCheckpoint,dirpath:'${hydra:runtime.output_dir}'"
    status, output = train("-m", *tiny, "epochs=1", "seed=0,1", f"+callbacks.best={{{saves}}}", cwd=tmp_path)
    assert status == 0, output


def test_the_check_of_a_job_is_not_that_of_a_command_which_it_runs(tiny: list[str], tmp_path: Path) -> None:
    status, output = train(*tiny, "epochs=1", "+hydra.job.env_set.PRUNELAB_PLANNED='0-0'", cwd=tmp_path)
    assert status == 0, output


def test_an_output_folder_that_cannot_be_written_is_reported(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()
    status, output = train(*tiny, cwd=tmp_path)
    assert status == 1
    assert "outputs is not a folder" in output


def test_weights_that_do_not_fit_end_a_sweep_before_its_first_job(tiny: list[str], tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(4, 10).state_dict(), tmp_path / "other.pt")
    status, output = train("-m", *tiny, "seed=0,1", "pretrained=null,other.pt", cwd=tmp_path)
    assert status == 1
    assert re.search(
        r"^train: pretrained=other.pt cannot be loaded .* \(job seed=0 pretrained=other.pt\)$", output, re.M
    )
    assert not (tmp_path / "outputs").exists()


def test_a_killed_job_is_finished_by_the_same_command(tiny: list[str], tmp_path: Path) -> None:
    overrides = ["prune=usp", "rate=0.5", *tiny, "epochs=6"]
    train(*overrides, "name=whole", cwd=tmp_path)
    killed(*overrides, "name=killed", cwd=tmp_path, when="epoch 3/6")
    folder = next((tmp_path / "outputs" / "killed").glob("prune*"))
    assert not (folder / "result.json").exists()
    assert train(*overrides, "name=killed", cwd=tmp_path)[0] == 0
    resumed = json.loads((folder / "result.json").read_text())
    whole = json.loads(next((tmp_path / "outputs" / "whole").glob("prune*/result.json")).read_text())
    losses = [[epoch["test_loss"] for epoch in result["history"]] for result in (resumed, whole)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_jobs_in_processes_of_their_own_take_the_conf_and_the_networks_of_the_command(
    tiny: list[str], tmp_path: Path
) -> None:
    """`python -m prunelab.train` runs none of the user's train.py and all of their networks, as do its jobs."""
    (tmp_path / "train.py").write_text("open('own_train_py_was_run', 'w')\n")
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3, 4), nn.Flatten(), nn.Linear(256, num_classes))\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text("_target_: own.Net\n")
    shutil.copytree(conf_dir(), tmp_path / "conf2")
    yaml = tmp_path / "conf2" / "train.yaml"
    yaml.write_text(yaml.read_text().replace("channels_last: true", "channels_last: false"))
    where = ["--config-path", str(tmp_path / "conf2"), "--config-dir", "conf"]
    args = ["-m", *where, "prune=usp", "rate=0.3", *tiny, "epochs=1", "model=own", "hydra.launcher.jobs=2"]
    done = subprocess.run([sys.executable, "-m", "prunelab.train", *args], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    (result,) = (tmp_path / "outputs" / "tiny").glob("*/result.json")
    assert json.loads(result.read_text())["config"]["channels_last"] is False
    assert json.loads(result.read_text())["config_dir"] == "conf"
    assert (result.parent / "output.log").exists()
    assert "sparsity" in done.stdout
    assert not (tmp_path / "own_train_py_was_run").exists()


def check(overrides: list[str], folder: Path) -> None:
    """What the command of one job checks of it."""
    cfg = compose_job(overrides, folder)
    refuse_sweep_settings(HydraConfig.get(), cfg.get("scale"))


@pytest.mark.parametrize(
    "typed", ["hydra/launcher=pool", "hydra.launcher.jobs=2", "hydra/sweeper=grid", "hydra.sweep.dir=x"]
)
def test_what_only_a_sweep_has_is_refused_for_one_job(typed: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{typed}: there is one job, .*; add -m"):
        check(["hydra.run.dir=y", typed], tmp_path)


def test_one_job_of_a_study_is_given_its_scale_too(tmp_path: Path) -> None:
    """Of several sweeps the one counts that the command comes nearest to; of several scales, the one that it names."""
    typed = ["experiment=exercise", "scale=smoke", "prune=sp", "rate=0.2"]
    with pytest.raises(ValueError, match=r"^data, data\.train, data\.test, model, epochs, seed: a file sweeps over"):
        check(typed, tmp_path)
    typed += ["model=resnet8", "epochs=4", "seed=0"]
    with pytest.raises(ValueError, match=r"^data\.train, data\.test: a file sweeps over it; add -m, or give one value"):
        check([*typed, "data=shapes"], tmp_path)
    check([*typed, "data=shapes", "data.train=1500", "data.test=500"], tmp_path)
    check([*typed, "data=cifar10"], tmp_path)  # which has no use for what the scale sets of its own data
    check([*typed, "scale=cpu", "data=shapes"], tmp_path)


def test_one_job_of_a_file_that_sweeps_is_given_what_the_file_sweeps_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^rate: a file sweeps over it; add -m, or give one value: rate=\.\.\.$"):
        check(["experiment=demo", "prune=usp"], tmp_path)
    check(["experiment=demo", "prune=usp", "rate=0.2"], tmp_path)

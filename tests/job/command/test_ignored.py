"""Files and commands that ask for what Hydra would ignore are refused, as are typing errors in files."""

from pathlib import Path

import pytest
from compose import compose_job, job_from
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from prunelab.job.command.ignored import refuse_choices_of_files
from prunelab.job.command.mistakes import explain

GLOBAL = "# @package _global_\n"


def compose_with(file: str, folder: Path, *overrides: str) -> None:
    """Composes a command that chooses this experiment."""
    (folder / "experiment").mkdir()
    (folder / "experiment" / "own.yaml").write_text(file)
    job_from(compose_job([f"hydra.searchpath=[{folder.as_uri()}]", "experiment=own", *overrides], folder))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (f"{GLOBAL}batchsize: 3\n", "batchsize: nothing reads it; did you mean optim.batch_size?"),
        (f"{GLOBAL}optim:\n  lr: 0.1\n", "optim.lr: nothing reads it; did you mean optim.optimizer.lr?"),
        (f"{GLOBAL}augment:\n  padd: 1\n", "augment.padd: prunelab.data.augment.PadCropFlip does not take it; did "),
        ("rate: 0.5\n", 'experiment.rate: nothing reads it; the first line of the file must be "# @package _global_"'),
        (f"{GLOBAL}model: vgg11\n", "model: vgg11: a file chooses an option in its defaults: - override /model: vgg11"),
        (f"{GLOBAL}hydra:\n  sweap: 1\n", "hydra.sweap: there is no such value, and experiment/own.yaml sets it; "),
        (
            f"{GLOBAL}defaults:\n  - override /modle: vgg11\n",
            "override modle: experiment/own.yaml finds no such group; ",
        ),
        (
            f"{GLOBAL}defaults:\n  - override hydra/launcher: slurm\n",
            "hydra/launcher: experiment/own.yaml cannot choose",
        ),
        (f"{GLOBAL}defaults:\n  - /hydra/launcher: slurm\n", "hydra/launcher: a file does not choose it; give "),
    ],
)
def test_a_mistake_in_an_experiment_file_is_told_in_a_line(file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, HydraException, OmegaConfBaseException)) as caught:
        compose_with(file, tmp_path)
    error = caught.value
    assert (str(error) if isinstance(error, ValueError) else explain(error)).startswith(message)


def test_a_callback_without_a_name_is_told_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "own.yaml").write_text("_target_: own.Callback\n")
    with pytest.raises(ValueError, match='callbacks._target_: .*begin the file with "# @package callbacks.NAME"'):
        compose_with(GLOBAL, tmp_path, "callbacks=own")


def test_a_launcher_that_a_file_chooses_in_vain_is_refused_unless_the_command_chooses_one(tmp_path: Path) -> None:
    file = f"{GLOBAL}defaults:\n  - override /hydra/launcher: slurm\n"
    compose_with(file, tmp_path)
    with pytest.raises(
        ValueError, match=r"^experiment=own: Hydra ignores .*; add hydra/launcher=slurm to the command$"
    ):
        refuse_choices_of_files(HydraConfig.get())
    (tmp_path / "other").mkdir()
    compose_with(file, tmp_path / "other", "hydra/launcher=pool")
    refuse_choices_of_files(HydraConfig.get())


def test_a_scale_that_a_study_has_is_no_mistake_beside_another_name(tmp_path: Path) -> None:
    """The name that the file gives contains the scale, so that it is read in any case."""
    smoke = ["experiment=exercise", "scale=smoke", "name=mine", "prune=sp", "rate=0.2", "data=shapes"]
    assert job_from(compose_job([*smoke, "model=resnet8", "epochs=4"], tmp_path)).name == "mine"
    for wrong in (["+scale=smoke", "data=shapes"], [*smoke, "scale=large"]):
        with pytest.raises(ValueError, match="^scale: nothing reads it"):
            job_from(compose_job(wrong, tmp_path))

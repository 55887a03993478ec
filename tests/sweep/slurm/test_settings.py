"""Settings of the Slurm launcher that are refused; no Slurm is needed."""

from pathlib import Path

import pytest
from forked import train

pytest.importorskip("submitit", reason="the Slurm launcher needs submitit")
from prunelab.sweep.slurm import settings

GIVEN = {"timeout_min": 240, "signal_delay_s": 120}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"setup": "module load x"}, """setup=module load x: expected a list; write hydra.launcher.setup='["module"""),
        ({"srun_args": "-v"}, """srun_args=-v: expected a list; write hydra.launcher.srun_args='["-v"]'"""),
        ({"timeout_min": "4h"}, "timeout_min=4h: expected a whole number of at least 1"),
        ({"timeout_min": None}, "timeout_min and signal_delay_s: without both no job ends in time; give them"),
        ({"timeout_min": 3}, "timeout_min=3 with signal_delay_s=120: .* give at least 4 minutes"),
        ({"cpus_per_task": True}, "cpus_per_task=True: expected a whole number of at least 1"),
        ({"mem_gb": "8G"}, "mem_gb=8G: expected a number of gigabytes"),
        ({"gpu": 1}, "gpu: there is no such setting; did you mean hydra.launcher.gpus_per_node"),
        ({"mail_typ": "END"}, "did you mean hydra.launcher.mail_type.*additional_parameters.mail-typ$"),
    ],
)
def test_what_slurm_or_submitit_would_not_take_is_named_with_the_remedy(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")) as error:
        settings.check(GIVEN | given)
    assert "\n" not in str(error.value)


def test_the_settings_that_there_are_pass() -> None:
    settings.check(GIVEN | {"timeout_min": 4, "setup": ["module load x"], "gpus_per_node": "auto", "mem_gb": 1.5})
    settings.check(GIVEN | {"partition": 7, "comment": "x", "gpus_per_node": 0, "additional_parameters": {"x": 1}})


def test_they_are_checked_before_the_data(tmp_path: Path) -> None:
    where = ["-m", "hydra/launcher=slurm", "data=image_folder", "data.root=nowhere", "hydra.launcher.timeout_min=4h"]
    status, output = train(*where, "seed=0,1", cwd=tmp_path)
    assert status == 1
    assert output.startswith("train: hydra.launcher.timeout_min=4h: expected a whole number")
    assert output.count("\n") == 1

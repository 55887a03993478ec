"""Typing errors are told in one line with the nearest real name, and values that nothing reads are refused."""

import re
from pathlib import Path

import pytest
from compose import compose_job, job_from
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from prunelab.job.command.help import help_text
from prunelab.job.command.mistakes import explain, naming_the_job
from prunelab.job.command.unread import refuse_dashes, refuse_list, refuse_null
from prunelab.job.conf import conf_dir

TABLE = Path(__file__).parents[3] / "docs" / "command.md"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("rates=0.5", "rates: there is no such value; did you mean rate?"),
        ("lr=0.1", "lr: there is no such value; did you mean optim.optimizer.lr?"),
        ("batch_size=32", "batch_size: there is no such value; did you mean optim.batch_size?"),
        ("optim.lr=0.1", "optim.lr: there is no such value; did you mean optim.optimizer.lr?"),
        ("trainer.max_epoch=3", "trainer.max_epoch: there is no such value; did you mean epochs?"),
        ("modle=resnet8", "modle: there is no such value; did you mean model?"),
        ("workers=4", "workers: there is no such value; --cfg job prints the names"),
        (
            "prune.pruning.pruner.schedul.end=1",
            "prune.pruning.pruner.schedul.end: there is no such value; did you mean prune.pruning.pruner.schedule.end?",
        ),
        ("hydra.launcher.job=2", "hydra.launcher.job: there is no such value; did you mean hydra.launcher.jobs?"),
        ("prune=ups", "prune=ups: there is none; did you mean usp?"),
        ("logger=wandbb", "logger=wandbb: there is none; did you mean wandb?"),
        ("rate=0,0.5", "rate=0,0.5: several values; add -m to run a job for each, or write [...] for a list"),
        ("prune=usp,sp", "prune=usp,sp: several values; add -m to run a job for each"),
        ("+prune=usp", "prune: it is chosen already; write prune=..., without +"),
        ("seed=[", "seed=[: "),
        ("prune=usp,", "prune=usp,: mismatched input '<EOF>'; no spaces go beside = and commas; quote a value "),
        ("rate", "rate: Error parsing override 'rate' missing EQUAL at '<EOF>'; no spaces go beside ="),  # rate = 0.5
    ],
)
def test_what_cannot_be_composed_is_explained_in_a_line(typed: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose_job(["prune=sp"] * (not typed.startswith(("prune=", "+prune="))) + [typed], tmp_path)
    explained = explain(caught.value)
    assert explained.startswith(message)
    assert "\n" not in explained


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("+lr=0.1", "lr: nothing reads it; did you mean optim.optimizer.lr?"),
        ("+optim.lr=0.1", "optim.lr: nothing reads it; did you mean optim.optimizer.lr?"),
        ("+my.own=1", "my: nothing reads it; "),
        ("+prune.foo=1", "prune.foo: nothing reads it; "),
        ("+callbacks.emaa=0.9", "callbacks.emaa: nothing reads it; "),
    ],
)
def test_a_value_that_nothing_reads_is_refused(typed: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing reads it") as caught:
        job_from(compose_job(["prune=usp", typed], tmp_path))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("read", ["${peak}", "${ peak }", "${oc.select:peak}", "${oc.select: peak,1}"])
def test_a_value_that_an_interpolation_reads_is_taken(read: str, tmp_path: Path) -> None:
    job = job_from(compose_job(["+peak=0.3", f"optim.optimizer.lr='{read}'"], tmp_path))
    assert job.config["optim"]["optimizer"]["lr"] == 0.3


def test_the_ten_commonest_typing_errors_get_what_the_docs_say(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `train ([^`]+)` \| `train: (.+)` \|$", TABLE.read_text(), re.MULTILINE)
    assert len(rows) == 10
    for typed, said in rows:
        with pytest.raises((HydraException, OmegaConfBaseException, ValueError)) as caught:
            refuse_null(typed.split(), conf_dir())
            job_from(compose_job(typed.split(), tmp_path))
        error = caught.value
        assert (str(error) if isinstance(error, ValueError) else explain(error)) == said, typed


def test_help_on_an_option_that_does_not_exist_says_so() -> None:
    with pytest.raises(ValueError, match="^prune=ups: there is none; did you mean usp\\?$"):
        help_text(conf_dir(), ["prune=ups", "--help"])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("+model.widht=2", "model.widht: prunelab.models.vgg.vgg11 does not take it; did you mean model.width?"),
        (
            "+augment.padd=1",
            "augment.padd: prunelab.data.augment.PadCropFlip does not take it; did you mean augment.pad?",
        ),
        (
            "+optim.optimizer.momentumm=0.9",
            "optim.optimizer.momentumm: torch.optim.SGD does not take it; did you mean optim.optimizer.momentum?",
        ),
        (
            "+prune.pruning.pruner.schedule.stop=1",
            "prune.pruning.pruner.schedule.stop: prunelab.core.schedule.Cubic does not take it; "
            "it takes rate, start, end, every",
        ),
    ],
)
def test_an_argument_that_a_class_does_not_take_is_refused_with_the_nearest(
    typed: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="does not take it") as caught:
        job_from(compose_job(["prune=usp", "model=vgg11", typed], tmp_path))
    assert str(caught.value) == message


def test_an_argument_that_a_class_takes_beyond_its_yaml_is_passed_on(tmp_path: Path) -> None:
    job = job_from(compose_job(["+optim.optimizer.dampening=0.1", "+trainer.gradient_clip_val=1"], tmp_path))
    assert job.config["optim"]["optimizer"]["dampening"] == 0.1


def test_a_value_with_dashes_is_told_without_them() -> None:
    for word in ("--prune=usp", "--rate=0.5", "--data.train=3"):
        with pytest.raises(ValueError, match=f"^{word}: write {word[2:]}, without --$"):
            refuse_dashes([word], conf_dir())
    refuse_dashes(["--config-dir=mine", "--cfg=job", "--help", "rate=0.5"], conf_dir())


def test_a_list_for_a_group_of_one_says_how_to_run_each() -> None:
    with pytest.raises(ValueError, match=r"^model=\[a,b\]: a job has one model; .* write -m model=a,b$"):
        refuse_list(["seed=0", "model=[a,b]"])
    refuse_list(["callbacks=[ema,lr_monitor]", "logger=[csv]", "trainer.gpus=[0]", "seed=0", "data.root=[x]"])


def test_null_for_a_group_says_how_to_go_without() -> None:
    with pytest.raises(ValueError, match="logger=none"):
        refuse_null(["seed=0", "logger=csv,null"], conf_dir())
    with pytest.raises(ValueError, match="~callbacks"):
        refuse_null(["callbacks=null"], conf_dir())
    with pytest.raises(ValueError, match="model=null: a group takes the name of an option; expected one of conv2, "):
        refuse_null(["model=null"], conf_dir())
    refuse_null(["pretrained=null", "seed=0"], conf_dir())


def test_what_goes_wrong_in_one_of_several_jobs_names_it_unless_it_does_already() -> None:
    jobs = [["data=shapes", "rate=0.5", "seed=0"], ["data=shapes", "rate=9", "seed=0"]]
    with pytest.raises(ValueError, match=r"^batch too large \(job rate=9\)$"), naming_the_job(jobs[1], jobs):
        raise OSError("batch too large")
    with pytest.raises(ValueError, match="^rate=9: expected less$"), naming_the_job(jobs[1], jobs):
        raise ValueError("rate=9: expected less")
    with pytest.raises(OSError, match="^no file$"), naming_the_job(jobs[1], jobs[1:]):
        raise OSError("no file")


@pytest.mark.parametrize("jobs", [["usp", "spp"], ["spp"]])
def test_an_option_that_one_of_several_jobs_misspells_is_explained_in_a_line(jobs: list[str], tmp_path: Path) -> None:
    typed = [[f"prune={name}", "rate=0.5"] for name in jobs]
    with (
        pytest.raises(ValueError, match="^prune=spp: there is none; did you mean [^\n]+$"),
        naming_the_job(typed[-1], typed),
    ):
        compose_job(typed[-1], tmp_path)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine.Relativ", "mine.Relativ: mine has no Relativ; did you mean Relative?"),
        ("mien.Relative", "mien.Relative: there is no module mien; run the command where mien.py is, or install it"),
        ("prunelab.criteria.nrm.Norm", "prunelab.criteria.nrm.Norm: prunelab.criteria has no nrm; did you mean norm?"),
        ("needs.Net", "needs.Net: ModuleNotFoundError: No module named 'nopkg' ({}/needs.py, line 2)"),
        ("unlike.Net", "unlike.Net: AttributeError: type object 'int' has no attribute 'zero' ({}/unlike.py, line 1)"),
        ("broken.Net", "broken.Net: SyntaxError: invalid syntax (broken.py, line 1)"),
    ],
)
def test_a_class_that_cannot_be_imported_is_told_with_the_error_in_its_file(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("class Relative:\n    pass\n")
    (tmp_path / "needs.py").write_text("import os\nimport nopkg\n")
    (tmp_path / "unlike.py").write_text("zero = int.zero\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": target})
    assert explain(caught.value) == message.format(tmp_path)

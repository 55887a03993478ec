"""Impossible values are refused with name and remedy before anything is built."""

import hashlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from compose import job_from
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunelab.job.check import check_launcher, check_same_sweep
from prunelab.job.conf import conf_dir
from prunelab.job.run import resolve_auto
from prunelab.report.groups import slug
from prunelab.store.folder import refuse_unwritable
from prunelab.store.naming import job_folder
from prunelab.store.weights import weights_file


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate=1.0", r"rate=1.0: expected a fraction in \[0, 1\)"),
        ("rate=-0.1", "rate=-0.1: expected a fraction"),
        ("rate=80", "for 80 % write rate=0.8"),
        ("rate=80%", "for 80 % write rate=0.8"),
        ("rate='0.5'", "expected a fraction in \\[0, 1\\); write the number 0.5, not text"),
        ("rate=nan", "rate=nan"),
        ("rate=half", "rate=half"),
        ("rate=true", "rate=True"),
        ("epochs=0", "epochs=0: expected a whole number of at least 1"),
        ("epochs=2.5", "epochs=2.5"),
        ("seed=-1", "seed=-1"),
        ("seed=4294967296", "seed=4294967296: expected a whole number of at least 0 and below 4294967296"),
        ("optim.batch_size=0", "optim.batch_size=0: expected a whole number of at least 1"),
        ("optim.batch_size=2.5", "optim.batch_size=2.5"),
        ("optim.label_smoothing=-1", r"optim.label_smoothing=-1: expected a number in \[0, 1\)"),
        ("optim.label_smoothing=half", "optim.label_smoothing=half"),
        ("optim.finetune=-0.01", "optim.finetune=-0.01"),
        ("optim.optimizer.lr=-0.1", "optim.optimizer.lr=-0.1: expected a number in"),
        ("optim.optimizer.lr=nan", "optim.optimizer.lr=nan"),
        ("optim.optimizer.momentum=1.5", r"optim.optimizer.momentum=1.5: expected a number in \[0, 1\)"),
        ("optim.optimizer.weight_decay=-5e-4", "optim.optimizer.weight_decay=-0.0005: expected a number in"),
        ("+trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: expected a number in"),
        ("trainer.accelerator=cdua", "trainer.accelerator=cdua: expected one of auto, cpu, gpu, cuda, mps"),
        ("name=../x", "name=../x"),
        ("name='a b'", "name=a b"),
        ("name=1.10", "name=1.1: read as a number or as nothing; begin the name with a letter"),
        ("name=null", "name=None: read as a number or as nothing"),
        ("model._target_=null", "model: it has no _target_; add the class or function that makes it to its YAML file"),
        ("compile=maybe", "compile=maybe: expected true or false, or auto"),
        ("+trainer.gradient_clip_algorithm=norm", "nothing is clipped without trainer.gradient_clip_val; give both"),
        ("+trainer.max_steps=10", "trainer.max_steps: a job sets this itself"),
        ("+trainer.limit_val_batches=2", "trainer.limit_val_batches"),
        ("trainer.devices=2", "trainer.devices=2: several devices train one network with trainer=ddp; add it"),
        ("trainer.devices=auto", "trainer.devices=auto: expected a whole number of at least 1"),
        ("trainer.devices=0", "trainer.devices=0: expected a whole number"),
        ("optim.optimizer.lr=???", "optim.optimizer.lr: it has no value; give one"),
        ("+trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0: expected a whole number"),
        ("+trainer.profiler=foo", "trainer.profiler=foo: expected one of simple, advanced, pytorch"),
        ("+trainer.gradient_clip_algorithm=foo", "trainer.gradient_clip_algorithm=foo: expected one of norm, value"),
        ("+trainer.deterministic=maybe", "trainer.deterministic=maybe: expected one of true, false, warn"),
        ("+trainer.benchmark=maybe", "trainer.benchmark=maybe: expected one of true, false"),
        ("+trainer.strategy=fsdp", "trainer.strategy=fsdp: expected auto or ddp"),
        ("rerun=no", "rerun=no: expected true, false, or the time in the name of a folder"),
        ("rerun=20261130", "rerun=20261130: expected true, false, or the time"),
        ("channels_last=auto", "channels_last=auto: expected true or false"),
        ("precision=64-true", "precision=64-true: expected one of auto, 32-true, 16-mixed, bf16-mixed"),
    ],
)
def test_an_impossible_value_is_refused_by_name(override: str, message: str, composed) -> None:
    cfg, given = composed("prune=usp"), OverridesParser.create().parse_override(override)
    OmegaConf.update(cfg, given.key_or_group, given.value(), force_add=given.is_add())  # composing takes longer
    with pytest.raises(ValueError, match=message):
        job_from(cfg)


def test_a_job_may_go_without_augmentation(composed) -> None:
    cfg = composed("prune=usp")
    cfg.augment = None
    assert job_from(cfg).config["augment"] is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=3"], "optim.batch_size=20: expected a multiple of trainer.devices=3"),
        (["prune=sp", "rate=0.5", "+rates={fc:0.5}"], "rates: only prune/allocation=explicit takes rates by pattern"),
        (["prune=sp", "prune/allocation=explicit", "+rates={*:0.5}"], "rates: at rate=0 nothing is pruned"),
        (["prune=usp", "round_to=8", "rate=0.5", "+distill=logits"], "distill: the teacher is the dense network"),
        (["prune=none", "round_to=8"], "round_to=8: this method does not use it"),
        (["prune=sp", "budget=latency", "trainer.devices=2"], "2 devices would each time their own network; use macs"),
    ],
)
def test_what_several_devices_cannot_do_is_refused(overrides: list[str], message: str, composed) -> None:
    with pytest.raises(ValueError, match=message):
        job_from(composed("trainer=ddp", *overrides))
    job_from(composed("trainer=ddp", "trainer.devices=4"))


@pytest.mark.parametrize(
    ("target", "mode", "message"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", RunMode.RUN, None),
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", RunMode.MULTIRUN, "add hydra/launcher=pool"),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", RunMode.MULTIRUN, "launcher=pool"),
        ("hydra_plugins.somewhere.PoolLauncher", RunMode.MULTIRUN, None),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", RunMode.MULTIRUN, None),
    ],
)
def test_a_job_of_several_processes_is_not_run_inside_the_process_of_a_sweep(target, mode, message) -> None:
    hydra = OmegaConf.create({"mode": mode, "launcher": {"_target_": target, "tasks_per_node": 2}})
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        check_launcher(2, hydra)
    if target.endswith("SlurmLauncher"):
        for devices in (1, 4):  # two tasks of one device would each take themselves for the job
            with pytest.raises(ValueError, match=f"trainer.devices={devices} with .*tasks_per_node=2: there must be"):
                check_launcher(devices, hydra)
        for nothing in (None, 1):
            check_launcher(1, OmegaConf.merge(hydra, {"launcher": {"tasks_per_node": nothing, "nodes": nothing}}))
        with pytest.raises(ValueError, match="launcher.nodes=2: all devices of a job are on one node"):
            check_launcher(2, OmegaConf.merge(hydra, {"launcher": {"nodes": 2}}))
    else:
        check_launcher(1, hydra)


def _composed_hydra(launcher: str, target: str, timeout: int, devices: int = 1) -> DictConfig:
    settings = {"_target_": target, "timeout_min": timeout, "tasks_per_node": "${trainer.devices}"}
    choices = {"hydra/launcher": launcher, "hydra/sweeper": "grid"}
    hydra = {"launcher": settings, "sweeper": {"_target_": "GridSweeper"}, "runtime": {"choices": choices}}
    return OmegaConf.create({"trainer": {"devices": devices}, "hydra": hydra}).hydra


def test_a_file_that_is_swept_over_sets_slurms_requests_and_nothing_else_of_the_launcher() -> None:
    slurm, pool = "somewhere.SlurmLauncher", "prunelab.PoolLauncher"
    check_same_sweep(_composed_hydra("ours", slurm, 60), _composed_hydra("ours", slurm, 90, devices=2))
    check_same_sweep(_composed_hydra("pool", pool, 60), _composed_hydra("pool", pool, 60, devices=2))
    for other, message in (
        (_composed_hydra("pool", pool, 90), "^hydra.launcher.timeout_min=90: Hydra ignores it .* of the command, 60;"),
        (_composed_hydra("ours", slurm, 60), "^hydra/launcher=ours: Hydra ignores it .* of the command, pool;"),
    ):
        with pytest.raises(ValueError, match=message):
            check_same_sweep(_composed_hydra("pool", pool, 60), other)


def test_one_device_is_the_same_job_under_any_trainer_and_two_are_another(composed) -> None:
    plain, ddp, two = (
        (job := job_from(composed(*overrides))).values | resolve_auto(job, SimpleNamespace(fingerprint="", train=()))
        for overrides in (["trainer=cpu"], ["trainer=ddp"], ["trainer=ddp", "trainer.devices=2"])
    )
    assert plain == ddp
    assert plain.keys() ^ two.keys() == {"trainer.devices"}
    assert job_folder(["trainer=ddp", "trainer.devices=1"], "usp", 0.2, 0) == job_folder([], "usp", 0.2, 0)
    assert job_folder(["trainer=ddp", "trainer.devices=2"], "usp", 0.2, 0).endswith(",trainer.devices=2")


def test_a_rate_without_a_method_is_refused(composed) -> None:
    with pytest.raises(ValueError, match=r"rate=0.5 with prune=none: nothing would be removed"):
        job_from(composed("rate=0.5"))


def test_a_missing_file_of_weights_is_refused(composed) -> None:
    with pytest.raises(FileNotFoundError, match="pretrained=nowhere.pt: no such file"):
        job_from(composed("pretrained=nowhere.pt"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune=usp", "rounds=3"], "rounds=3: this method does not use it"),
        (["prune=lottery", "rounds=3"], "rounds=3: this method does not use it"),
        (["prune=rigl", "rewind=1ep"], "rewind=1ep: this method does not use it"),
        (["prune=magnitude_global", "rounds=0"], "rounds=0: expected a whole number of at least 1"),
        (["prune=magnitude_global", "rounds=1.5"], "rounds=1.5"),
    ],
)
def test_a_knob_without_effect_is_refused(overrides: list[str], message: str, composed) -> None:
    with pytest.raises(ValueError, match=message):
        job_from(composed(*overrides))
    job_from(composed("prune=magnitude_layer", "rounds=3", "rewind=1ep"))
    job_from(composed("prune=lottery", "rewind=1ep"))


@pytest.mark.parametrize(("part", "option"), [("schedule", "rounds"), ("allocation", "erk"), ("criterion", "lamp")])
def test_a_sweep_over_methods_can_choose_a_part_for_all_of_them(part: str, option: str, composed) -> None:
    """Hydra composes without what is swept over first: prune=none, with the part chosen for the others."""
    cfg = composed(f"prune/{part}={option}")
    with pytest.raises(ValueError, match=r"prune.pruning has settings, but neither prune= nor retrain= adds this"):
        job_from(cfg)  # as a job of its own it would be dense training under another name


def test_a_method_that_retrains_takes_a_gradual_schedule_and_an_empty_part_is_refused(job, composed) -> None:
    assert job("prune=magnitude_global", "prune/schedule=cubic", "rate=0.5")["sparsity"]["attained"] == 0.5
    with pytest.raises(ValueError, match=r"prune.pruning has settings, but"):
        job_from(composed("prune=usp", "prune.pruning=null"))


def test_pretrained_takes_the_folder_of_a_finished_job_with_its_network(composed, tmp_path: Path) -> None:
    study, folder = tmp_path / "study", tmp_path / "study" / "prune=none,seed=0"

    def refused(path: Path, message: str) -> None:
        with pytest.raises(FileNotFoundError, match=message):
            job_from(composed(f"pretrained='{path}'"))

    refused(study, "study: no such file; expected weights, a job's folder, or auto")
    folder.mkdir(parents=True)
    refused(study, "study: not the folder of a finished job, it has no result.json; finish it with its command")
    (folder / "result.json").touch()
    refused(folder, "seed=0: it has no model.safetensors and no checkpoints/last.ckpt")
    for file in ("checkpoints/last.ckpt", "model.safetensors"):  # a scan of a file leaves no checkpoint
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
        job_from(composed(f"pretrained='{folder}'"))
        assert weights_file(folder) == folder / file
    with pytest.raises(FileNotFoundError) as error:
        weights_file(study)
    assert str(error.value).endswith(f"""it contains one, pretrained="'{folder}'\"""")


@pytest.mark.parametrize("override", ["augment.flip=no", "optim.optimizer.nesterov=Off", "+optim.optimizer.fused=yes"])
def test_what_yaml_files_have_for_true_or_false_is_refused_where_hydra_reads_text(override: str, composed) -> None:
    with pytest.raises(ValueError, match=f"^{override.lstrip('+')}: Hydra reads text here; write true or false, or"):
        job_from(composed("prune=usp", override))


@pytest.mark.parametrize("override", ["rerun=true", "rerun=20261130-214500", "name=on", "name='no'"])
def test_a_time_is_a_rerun_and_a_name_or_quoted_text_is_text(override: str, composed) -> None:
    job_from(composed(override))


def test_good_values_pass(composed) -> None:
    for override in ("rate=0", "rate=0.999", "name=a/b", "epochs=1", "compile=true"):
        job_from(composed("prune=sp", override))


def test_every_experiment_composes_and_names_its_own_study(composed) -> None:
    experiments = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
    assert "demo" in experiments
    for name in experiments:
        job_from(composed(f"experiment={name}"))
        assert "\nname:" in (conf_dir() / "experiment" / f"{name}.yaml").read_text()


def test_a_folder_is_named_after_the_overrides_in_any_order() -> None:
    overrides = [
        "epochs=10",
        "prune=usp",
        "+trainer.gradient_clip_val=1",
        "rate=0.20",
        "data.root=/some/where",
        "name=x",
    ]
    expected = "prune=usp,rate=0.2,seed=0,epochs=10,trainer.gradient_clip_val=1"
    assert job_folder(overrides, "usp", 0.2, 0) == expected
    assert job_folder(overrides[::-1], "usp", 0.2, 0) == expected


def test_a_folder_name_holds_no_slash_and_stays_short_but_distinct() -> None:
    assert "/" not in job_folder(["pretrained=/a/b.pt"], "usp", 0.2, 0)
    long = [job_folder([f"model.width={'9' * 300}{end}"], "usp", 0.2, 0) for end in "ab"]
    assert max(map(len, long)) < 200
    assert long[0] != long[1]


@pytest.mark.parametrize("letter", ["ж", "字", "😀", "e\u0301"])
def test_a_folder_name_of_any_script_can_be_made_and_stays_distinct(letter: str, tmp_path: Path) -> None:
    """A file system counts bytes of UTF-8: one letter takes up to four."""
    for length in (1, 60, 100, 200):
        names = [job_folder([f"pretrained={letter * length}{end}"], "usp", 0.2, 0) for end in "ab"]
        names += [slug(f"{'x' * shift}{letter * length}{end}") for shift in range(4) for end in "ab"]
        for name in names:
            (tmp_path / name).mkdir()
        for name in names[2:]:
            (tmp_path / f"mean_accuracy_over_parameters-{name}{name}.png").touch()


def test_an_argument_that_is_no_text_has_a_folder_name() -> None:
    assert job_folder([b"pretrained=\xff".decode(errors="surrogateescape")], "usp", 0.2, 0).encode().isascii()


def test_a_folder_name_that_could_be_made_before_is_the_same() -> None:
    assert job_folder(["pretrained=" + "ж" * 90], "usp", 0.2, 0).endswith("ж" * 90)
    digest = hashlib.sha256(b"prune=usp,rate=0.2,seed=0,pretrained=" + "é".encode() * 200).hexdigest()[:8]
    assert job_folder(["pretrained=" + "é" * 200], "usp", 0.2, 0) == (
        "prune=usp,rate=0.2,seed=0,pretrained=" + "é" * 104 + f"~{digest}"
    )


def test_names_that_lose_a_character_stay_distinct() -> None:
    assert job_folder(["pretrained=a/b.pt"], "usp", 0.2, 0) != job_folder(["pretrained=a_b.pt"], "usp", 0.2, 0)
    assert job_folder([], "usp", 0.1234567, 0) != job_folder([], "usp", 0.1234568, 0)


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=r"file/outputs: results cannot be written, .*file is not a folder"):
        refuse_unwritable(tmp_path / "file" / "outputs")
    refuse_unwritable(tmp_path / "new" / "outputs")
    assert not (tmp_path / "new").exists()

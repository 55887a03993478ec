"""Which values make two jobs the same, and which make two results comparable."""

import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from prunelab.job.conf import conf_dir, yaml_digest
from prunelab.store import identity
from prunelab.store.identity import changes_result, comparable, flat, names_code, overrides_digest


def test_results_are_comparable_whatever_their_method_rate_and_seed() -> None:
    values = {"model.width": 8, "rate": 0.5, "seed": 1, "rounds": 2, "prune.pruning.pruner.skip": [], "prune": "usp"}
    assert comparable(values) == {"model.width": 8}


def test_callbacks_that_only_log_make_no_other_table() -> None:
    monitor = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "step"}
    values = flat({"callbacks": {"lr_monitor": monitor, "ema": {"decay": 0.9}}})
    assert comparable(values) == {"callbacks.ema.decay": 0.9}
    assert not changes_result("trainer.log_every_n_steps")


def test_a_budget_and_the_rate_of_fine_tuning_are_a_methods_own() -> None:
    """Without them in it, the digests of earlier jobs with the defaults would no longer be those of new ones."""
    defaults = {"budget": "units", "optim.finetune": 0.01, "optim.lr": 0.1}
    assert comparable({"budget": "macs", "optim.finetune": 0.001, "optim.lr": 0.1}) == defaults
    assert comparable({"optim.lr": 0.1}) == {"optim.lr": 0.1}


def digest_of(*overrides: str, folder: Path | None = None, name: str = "train") -> str:
    with initialize_config_dir(str(folder or conf_dir()), version_base="1.3"):
        cfg = compose(name, list(overrides), return_hydra_config=True)
    return overrides_digest(overrides, yaml_digest(cfg.hydra))


def written(folder: Path, text: str = "# @package _global_\nepochs: 1\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("kind", ["folder", "link", "package"])
def test_a_yaml_file_counts_wherever_hydra_finds_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = {"link": tmp_path / "elsewhere", "package": tmp_path / "shipped" / "conf" / "experiment"}
    file = written(real.get(kind, tmp_path / "mine" / "experiment")) / "own.yaml"
    if kind == "link":
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "experiment").symlink_to(real["link"])
        (real["link"] / "around").symlink_to(tmp_path / "mine")
    for package in ("shipped", "shipped/conf") if kind == "package" else ():
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    where = "pkg://shipped.conf" if kind == "package" else (tmp_path / "mine").as_uri()
    command = [f"hydra.searchpath=[{where}]", "experiment=own"]
    before = digest_of(*command)
    assert digest_of(*command) == before
    file.write_text(file.read_text().replace("1", "2"))
    assert digest_of(*command) != before


def test_the_environment_counts_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "experiment", "# @package _global_\nepochs: ${oc.decode:${oc.env:EPOCHS}}\n")
    reads = [f"hydra.searchpath=[{tmp_path.as_uri()}]"]
    for command, same in ((reads, False), (["epochs=${oc.env:EPOCHS}"], False), (["epochs=3"], True)):
        digests = set()
        for epochs in ("1", "2"):
            monkeypatch.setenv("EPOCHS", epochs)
            digests.add(digest_of(*command))
        assert (len(digests) == 1) is same


@pytest.mark.parametrize("variable", ["PRUNELAB_CACHE", "MLFLOW_TRACKING_URI"])
def test_a_place_that_our_own_files_read_from_the_environment_does_not(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_of()
    monkeypatch.setenv(variable, "elsewhere")
    assert digest_of() == before


def test_a_link_that_is_no_group_is_not_walked(tmp_path: Path) -> None:
    written(tmp_path / "images")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pictures").symlink_to(tmp_path / "images")
    before = digest_of(f"hydra.searchpath=[{(tmp_path / 'mine').as_uri()}]")
    written(tmp_path / "images", "epochs: 5")
    assert digest_of(f"hydra.searchpath=[{(tmp_path / 'mine').as_uri()}]") == before


def test_another_file_to_begin_with_counts(tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        (tmp_path / f"{name}.yaml").write_text("epochs: 1\n")
    assert digest_of(folder=tmp_path, name="alpha") != digest_of(folder=tmp_path, name="beta")


def test_a_key_is_left_out_by_its_whole_name() -> None:
    assert not changes_result("data.root")
    assert not changes_result("data.md5")
    assert not changes_result("logger.save_dir")
    assert changes_result("data.root_of_all")
    assert changes_result("names")


def test_jobs_from_before_a_value_keep_their_identity() -> None:
    of = {"of": "units"}
    config = {"rate": 0.5, "round_to": 1, "prune": {"pruning": {"pruner": {"budget": of | {"round_to": 1}}}}}
    assert flat(config) == flat({"rate": 0.5, "prune": {"pruning": {"pruner": {"budget": of}}}})
    assert flat(config | {"round_to": 8})["round_to"] == 8


def test_a_key_that_was_added_later_leaves_earlier_jobs_as_they_were() -> None:
    before = {"data": {"val": 5000}, "rate": 0.5}
    assert flat({"data": {"val": 5000, "size": None}, "rate": 0.5}) == flat(before)
    assert flat({"data": {"val": 5000, "size": 64}, "rate": 0.5}) != flat(before)


def test_a_callback_that_was_added_later_and_does_nothing_leaves_earlier_jobs_as_they_were() -> None:
    sparsify = {"_target_": "prunelab.callbacks.sparsify.Sparsify", "l1": 0.0, "threshold": 0.0}
    before = {"prune": {"shrink": {"_target_": "prunelab.callbacks.shrink.Shrink"}}}
    assert flat({"prune": {**before["prune"], "sparsify": sparsify}}) == flat(before)
    assert flat({"prune": {**before["prune"], "sparsify": sparsify | {"l1": 0.1}}})["prune.sparsify.l1"] == 0.1


def test_a_commit_names_the_code_of_a_checkout_without_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file that nobody has added changes src and conf as an edit does; one beside them changes neither."""
    monkeypatch.setattr(identity, "CHECKOUT", tmp_path / "conf")
    assert names_code(identity._commit())  # an installed package, whose version names it
    files = [tmp_path / "src" / "net.py", tmp_path / "conf" / "net.yaml", tmp_path / "notes.txt"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("first")
    assert not names_code(identity._commit())  # no Git
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(("git", "-C", str(tmp_path), *command), check=True)
    clean = identity._commit()
    assert clean is not None
    assert len(clean) == 12
    assert names_code(clean)
    (tmp_path / "new.txt").write_text("of no code")
    files[2].write_text("second")
    assert identity._commit() == clean
    for file in (files[0], files[1], tmp_path / "src" / "new.py", tmp_path / "conf" / "new.yaml"):
        before = file.read_text() if file.exists() else None
        file.write_text("second")
        assert identity._commit() == f"{clean}+"
        assert not names_code(f"{clean}+")
        file.unlink() if before is None else file.write_text(before)
    assert identity._commit() == clean

"""Two studies, or two jobs, are compared seed by seed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunelab.__main__ import main
from prunelab.report.compare import compare, differing
from prunelab.report.confidence import interval
from prunelab.report.results import load

Add = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(add: Add, tmp_path: Path) -> tuple[Path, Path]:
    """Studies of two seeds at two learning rates: at rate 0.5, B is 1 and 3 points better. Each has a job alone."""
    for name, lr, accuracies in (("a", 0.1, (0.8, 0.82)), ("b", 0.01, (0.81, 0.85))):
        config = {"epochs": 10, "model": {"_target_": "a"}, "optim": {"lr": lr}}
        for seed, accuracy in enumerate(accuracies):
            folder = f"../{name}/prune=usp,rate=0.5,seed={seed}"
            add("usp", 0.5, seed, folder=folder, accuracy=accuracy, config=config, comparable=name)
        add("sp", 0.2 if name == "a" else 0.3, folder=f"../{name}/prune=sp", config=config, comparable=name)
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()


def text(a: Path, b: Path, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as printed:
        console.print(compare(a, b))
    return printed.get()


def test_studies_are_paired_by_method_rate_and_seed(two: tuple[Path, Path]) -> None:
    lines = [line.split() for line in text(*two).splitlines()]
    assert ["usp", "0.5", "0", "80.00", "81.00", "+1.00"] in lines
    assert ["usp", "0.5", "1", "82.00", "85.00", "+3.00"] in lines
    assert ["optim.lr", "0.1", "0.01"] in lines
    printed = " ".join(text(*two).split())
    low, high = interval([1.0, 3.0]) or pytest.fail("no interval")
    assert f"usp at rate 0.5: +2.00 points (n = 2, 95 % interval {low:+.2f} to {high:+.2f})" in printed
    assert "Without a partner of the same method, rate and seed: 1 of A, 1 of B." in printed


def test_other_code_of_ones_own_is_a_difference(add: Add, tmp_path: Path) -> None:
    for name, digest in (("a", "aa"), ("b", "bb")):
        values = {"prune.pruning.pruner.criterion._target_": "mine.Score"}
        add("usp", 0.5, folder=f"../{name}/prune=usp", values=values, versions={"mine.Score": digest})
    lines = [line.split() for line in text(tmp_path / "a", tmp_path / "b").splitlines()]
    assert ["code", "of", "mine.Score", "aa", "bb"] in lines


def test_nothing_is_wider_than_the_terminal(two: tuple[Path, Path], tmp_path: Path) -> None:
    paths = [study.relative_to(tmp_path) for study in two]
    assert max(map(len, text(*(tmp_path / path for path in paths)).splitlines())) <= 80


def test_two_jobs_are_a_pair_whatever_they_are(two: tuple[Path, Path]) -> None:
    a, b = two[0] / "prune=usp,rate=0.5,seed=1", two[1] / "prune=sp"
    lines = [line.split() for line in text(a, b).splitlines()]
    assert ["prune", "usp", "sp"] in lines
    assert "usp / sp at rate 0.5 / 0.3:" in " ".join(text(a, b).split())
    assert "(n = 1, so no interval)" in " ".join(text(a, b).split())


def test_other_settings_of_a_method_have_partners_in_the_method(add: Add, tmp_path: Path) -> None:
    for seed in (0, 1):
        add("usp", 0.5, seed, folder=f"../a/seed={seed}")
        overrides = ["prune=usp", "prune/criterion=taylor"]
        add("usp", 0.5, seed, folder=f"../b/seed={seed}", overrides=overrides)
    for name in ("a", "b"):
        add("none", 0, folder=f"../{name}/prune=none")
    assert len(compare(tmp_path / "a", tmp_path / "b").pairs) == 3


def test_a_yaml_that_was_edited_between_studies_is_no_same_configuration(add: Add, tmp_path: Path) -> None:
    for name, end in (("a", 0.5), ("b", 0.75)):
        for rate in (0.5, 0.8):
            prune = {"pruning": {"pruner": {"schedule": {"rate": rate, "end": end}}}}
            add("usp", rate, folder=f"../{name}/rate={rate}", config={"epochs": 10, "prune": prune}, comparable=name)
    a, b = (load(tmp_path / name)[0] for name in ("a", "b"))
    assert differing(a, b) == [("prune.pruning.pruner.schedule.end", "0.5", "0.75")]


def test_pairs_on_images_of_their_own_are_not_called_others(add: Add, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for seed in (0, 1):
            add(seed=seed, folder=f"../{name}/seed={seed}", data={"fingerprint": str(seed)})
    assert "did not use the same images" not in text(tmp_path / "a", tmp_path / "b")


def test_what_differs_leaves_out_what_pairs_jobs_and_what_a_choice_says_already(add: Add, tmp_path: Path) -> None:
    def model(name: str) -> dict[str, Any]:
        config = {"epochs": 10, "rate": 0.5, "model": {"_target_": name, "width": 8}}
        return {"config": config, "labels": {"model": name, "data": "shapes", "optim": "sgd"}}

    for name in ("a", "b"):
        add(folder=f"../{name}/x=1", **model(name))
        add(rate=0.4, folder=f"../{name}/x=2", **model(name))
    a, b = (load(tmp_path / name)[0] for name in ("a", "b"))
    assert differing(a, b) == [("model", "a", "b")]
    assert differing(a, a) == []


def test_settings_that_are_called_rate_or_seed_are_differences_too(add: Add, tmp_path: Path) -> None:
    """As the drop-out of a network of one's own, or the seed of the built-in images."""
    for name, drop in (("a", 0.1), ("b", 0.9)):
        for rate in (0.2, 0.5):
            prune = {"pruning": {"pruner": {"schedule": {"rate": rate}}, "seed": 0}}
            config = {
                "epochs": 10,
                "rate": rate,
                "seed": 0,
                "prune": prune,
                "model": {"rate": drop},
                "data": {"seed": drop},
            }
            add("usp", rate, folder=f"../{name}/rate={rate}", config=config, comparable=name)
        add(
            "usp",
            0.7,
            folder=f"../{name}/rate=0.7",
            config={"epochs": 10, "rate": 0.7, "model": {"rate": drop}, "data": {"seed": drop}},
        )
    a, b = (load(tmp_path / name)[0] for name in ("a", "b"))
    assert differing(a, b) == [("model.rate", "0.1", "0.9"), ("data.seed", "0.1", "0.9")]


def test_other_images_are_said(add: Add, tmp_path: Path) -> None:
    for name in ("a", "b"):
        add(folder=f"../{name}/x=1", data={"fingerprint": name})
    assert "did not use the same images" in text(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("absent", "no such folder"),
        ("empty", "no job in this folder"),
        ("ambiguous", "several jobs are usp at rate 0.5"),
    ],
)
def test_a_mistake_is_one_line(
    which: str, message: str, two: tuple[Path, Path], add: Add, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty").mkdir()
    for i in range(2):
        add("usp", 0.5, folder=f"../ambiguous/x={i}", comparable=str(i))
    assert main(["compare", str(two[0]), str(tmp_path / which)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("prunelab compare: ")
    assert message in error
    assert error.count("\n") == 1


def test_studies_without_a_common_cell_are_refused(two: tuple[Path, Path], capsys: Capture) -> None:
    assert main(["compare", str(two[0] / "prune=sp"), str(two[1])]) == 2
    assert "no job of one has the method, rate and seed" in capsys.readouterr().err


def test_torch_is_not_imported(two: tuple[Path, Path]) -> None:
    code = (
        "import sys; from prunelab.__main__ import main; status = main(['compare', *sys.argv[1:]])\n"
        "heavy = [m for m in ('torch', 'lightning', 'hydra', 'altair', 'onnx') if m in sys.modules]\n"
        "print(status, heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, two)], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"

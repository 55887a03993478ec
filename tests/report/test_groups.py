"""Groups hold comparable jobs only, and their labels tell them apart."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunelab.report.groups import Group, group, slug
from prunelab.report.results import load
from prunelab.report.tables.formats import comma_separated
from prunelab.report.tables.table import rows

Add = Callable[..., Path]


def grouped(sweep: Path) -> list[Group]:
    return group(load(sweep)[0])


def setting(epochs: int = 10, model: str = "keras_cnn", lr: float = 0.1) -> dict[str, Any]:
    """Changes to a result that a change of these settings would have made."""
    config = {"epochs": epochs, "model": {"_target_": model, "width": 8}, "optim": {"lr": lr}}
    config["trainer"] = {"max_epochs": epochs}
    labels = {"model": model, "data": "image_folder", "optim": "sgd"}
    return {"comparable": f"{epochs}{model}{lr}", "config": config, "labels": labels}


def test_one_group_needs_no_label(sweep: Path) -> None:
    [only] = grouped(sweep)
    assert (only.label, only.suffix) == ("", "")
    seeds = max(only.seeds)
    assert only.setting == f"keras_cnn on image_folder, 10 epochs, {seeds} seed{'s' * (seeds > 1)}"


def test_jobs_of_other_models_or_epochs_are_never_mixed(add: Add) -> None:
    for model in ("keras_cnn", "resnet8"):
        for epochs in (1, 10):
            for rate in (0.0, 0.5):
                job = add(rate=rate, folder=f"model={model},epochs={epochs},rate={rate}", **setting(epochs, model))
    groups = grouped(job.parent)
    assert {len(g.results) for g in groups} == {2}
    assert all(len({(r.job.epochs, r.job.labels["model"]) for r in g.results}) == 1 for g in groups)
    assert groups[0].label == "model=keras_cnn, epochs=1"
    assert groups[0].suffix == "-model=keras_cnn,epochs=1"
    assert groups[0].setting == "keras_cnn on image_folder, 1 epoch, 1 seed"
    assert len({g.suffix for g in groups}) == 4


def test_jobs_of_other_code_of_their_network_are_never_mixed(add: Add) -> None:
    values = {"model._target_": "own.Net", "prune.pruning.pruner.criterion._target_": "score.Score"}
    for seed, (network, score) in enumerate([("aaaaaaaaaa", "1"), ("bbbbbbbbbb", "1"), ("aaaaaaaaaa", "2")]):
        job = add(folder=f"seed={seed}", seed=seed, values=values, versions={"own.Net": network, "score.Score": score})
    add(folder="of before", seed=3, values=values, versions={})
    groups = grouped(job.parent)
    assert [(g.label, len(g.results)) for g in groups] == [
        ("code of own.Net=not recorded", 1),
        ("code of own.Net=aaaaaaaaaa", 2),
        ("code of own.Net=bbbbbbbbbb", 1),
    ]


def test_a_nested_setting_is_named_when_nothing_else_differs(add: Add) -> None:
    add(folder="a=1", **setting(lr=0.1))
    groups = grouped(add(folder="a=2", **setting(lr=0.01)).parent)
    assert [g.label for g in groups] == ["optim.lr=0.1", "optim.lr=0.01"]
    assert groups[0].setting.endswith("1 seed, optim.lr=0.1")


def test_what_cannot_change_a_result_is_no_setting(add: Add) -> None:
    old, new = setting(lr=0.1), setting(lr=0.01)
    old["config"] |= {"data": {"_target_": "prunelab.data.cifar10.CIFAR10", "root": "/a"}, "every": "1it"}
    new["config"] |= {"data": {"_target_": "prunelab.data.sources.cifar10.CIFAR10", "root": "/b"}, "logger": {}}
    add(folder="a=1", **old)
    assert [g.label for g in grouped(add(folder="a=2", **new).parent)] == ["optim.lr=0.1", "optim.lr=0.01"]


def test_labels_differ_even_when_no_setting_does(add: Add) -> None:
    add(folder="a=1", comparable="aaaaaaaaaa")
    groups = grouped(add(folder="a=2", comparable="bbbbbbbbbb").parent)
    assert [g.label for g in groups] == ["id=aaaaaa", "id=bbbbbb"]


def test_rate_and_seed_never_make_a_label(add: Add) -> None:
    add(rate=0.1, seed=1, folder="a=1", comparable="a")
    groups = grouped(add(rate=0.2, seed=2, folder="a=2", comparable="b").parent)
    assert not any("rate" in g.label or "seed" in g.label for g in groups)


def test_the_unpruned_network_comes_first(add: Add) -> None:
    for method in ("grasp", "none", "usp"):
        job = add(method)
    assert grouped(job.parent)[0].methods == ["none", "grasp", "usp"]


def test_a_file_name_has_no_character_that_some_system_refuses(add: Add) -> None:
    add(folder="a=1", **setting(model="a/b: c"))
    assert grouped(add(folder="a=2", **setting()).parent)[0].suffix == "-model=a_b_c~3b3a19"


def test_names_that_differ_in_forbidden_characters_stay_distinct() -> None:
    assert slug("a/b") != slug("a:b")
    assert len(slug("x" * 300)) < 100
    assert slug("a=1,b-2") == "a=1,b-2"


def test_a_table_of_jobs_with_nothing_in_common_has_the_model_of_each(add: Add) -> None:
    for i, model in enumerate(("keras_cnn", "resnet8", "resnet20", "lenet300", "vgg11")):
        job = add(folder=f"job={i}", **setting(10 + i, model))
    [members] = grouped(job.parent)
    assert members.scattered
    table = csv.DictReader(io.StringIO(comma_separated([(members, rows(members))])))
    assert [(row["model"], row["epochs"]) for row in table] == [
        ("keras_cnn", "10"), ("resnet8", "11"), ("resnet20", "12"), ("lenet300", "13"), ("vgg11", "14"),
    ]  # fmt: skip

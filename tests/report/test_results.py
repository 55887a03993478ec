"""Every job of a sweep is either read or listed with a reason."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunelab.report.groups import group
from prunelab.report.html import page
from prunelab.report.listing import list_jobs
from prunelab.report.results import NothingToReport, load
from prunelab.report.tables import formats
from prunelab.report.tables.table import rows
from prunelab.store.folder import RunDir
from prunelab.sweep.plan import PlannedJob

Add = Callable[..., Path]


def damage(job: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((job / "result.json").read_text())
    change(content)
    (job / "result.json").write_text(json.dumps(content))


def test_a_result_is_read_as_it_was_written(add: Add) -> None:
    [result], unusable = load(add("usp", 0.4, 2).parent)
    assert (result.method, result.job.rate, result.job.seed, result.job.epochs) == ("usp", 0.4, 2, 10)
    assert result.curve[-1] == (10, result.accuracy)
    assert (result.dense.macs, result.pruned.macs, result.sparsity.attained) == (40_000, 24_000, 0.4)
    assert unusable == []


def test_bad_jobs_are_listed_with_their_reason_and_the_good_one_is_kept(add: Add) -> None:
    good = add("usp", 0.0)
    text = (add(rate=0.1) / "result.json").read_text()
    (good.parent / "prune=usp,rate=0.1,seed=0" / "result.json").write_text(text[: len(text) // 2])
    damage(add(rate=0.2), lambda c: c.update(schema=2))
    damage(add(rate=0.3), lambda c: c.pop("cost"))
    damage(add(rate=0.4), lambda c: c.update(accuracy=78.9))
    damage(add(rate=0.5), lambda c: c.update(accuracy=float("nan")))
    (add(rate=0.6) / "result.json").write_bytes(b"\xff\xfe")
    (add(rate=0.7) / "result.json").write_text("[]")
    (add(rate=0.8) / "result.json").unlink()
    results, unusable = load(good.parent)
    assert [r.folder for r in results] == [good]
    expected = (
        "half-written",
        "schema 2 is newer",
        "no 'cost'",
        "accuracy=78.9",
        "nan",
        "half-written",
        "expected an object",
        "not begun: the same command starts it",
    )
    assert len(unusable) == len(expected)
    assert all(words in job.reason for job, words in zip(unusable, expected, strict=True))


def test_a_failed_job_has_the_reason_of_the_table_and_of_ls_and_the_name_of_what_differs(add: Add) -> None:
    good, bad = add("usp", 0.0, 0), add("usp", 0.5, 0)
    (bad / "result.json").unlink()
    RunDir(bad).fail(ValueError("epoch 1: the loss is nan"))
    [excluded] = load(good.parent)[1]
    assert (excluded.name, excluded.reason) == ("rate=0.5", "failed: ValueError: epoch 1: the loss is nan")
    [entry] = [entry for entry in list_jobs(good.parent).entries if entry.state == "failed"]
    planned = PlannedJob((), RunDir(bad))
    assert {f"{state}: {why}" for state, why in ((entry.state, entry.reason), (planned.state, planned.reason))} == {
        excluded.reason
    }


def test_only_job_folders_can_be_unfinished(add: Add) -> None:
    sweep = add().parent
    for name in ("figures", "logs", ".trash=1", "aborted/.hydra"):
        (sweep / name).mkdir(parents=True)
    (sweep / "a=b.txt").write_text("")
    assert [job.folder.name for job in load(sweep)[1]] == ["aborted"]


def test_of_two_jobs_of_one_seed_the_later_counts(add: Add) -> None:
    later, first = add(folder="a=1,rerun=2"), add(folder="a=2")
    os.utime(first / "result.json", (1e9, 1e9))
    results, [duplicate] = load(first.parent)
    assert [r.folder for r in results] == [later]
    assert duplicate.folder == first
    assert duplicate.reason == "same method, rate and seed as the later a=1,rerun=2"


def test_the_later_rerun_counts_in_a_copy_too(add: Add) -> None:
    """Copies have the times at which they were made."""
    names = ("", ",rerun=20261121-120000", ",rerun=20261122-090000~0123abcd")
    _, first, later = (add(folder=f"a=1{again}") for again in names)
    os.utime(first / "result.json", (2e9, 2e9))
    assert [r.folder for r in load(first.parent)[0]] == [later]


def test_a_table_is_by_the_keys_of_this_version(add: Add) -> None:
    """Earlier ones counted the budget among what results must share."""
    jobs = [add(seed=i, comparable=str(i), values={"budget": b, "epochs": 3}) for i, b in enumerate(("macs", "units"))]
    assert len({result.job.table for result in load(jobs[0].parent)[0]}) == 1


def test_other_settings_inside_prune_are_another_method(add: Add) -> None:
    add("usp", 0.2)
    sweep = add("usp", 0.2, folder="b=1", overrides=["prune=usp", "+prune.scope=global", "epochs=2"]).parent
    assert [r.method for r in load(sweep)[0]] == ["usp (scope=global)", "usp"]


@pytest.mark.parametrize("knob", ["rewind=1ep", "retrain=lr_rewind", "rounds=3"])
def test_a_knob_of_the_method_makes_another_method_and_a_knob_of_the_run_does_not(add: Add, knob: str) -> None:
    sweep = add("imp", 0.2, overrides=["prune=imp", knob, "epochs=2", "pretrained=auto"]).parent
    assert [r.method for r in load(sweep)[0]] == [f"imp ({knob})"]


def test_an_untested_epoch_leaves_a_gap_in_the_curve_only(add: Add) -> None:
    history = [{"epoch": 1, "step": 1, "test_acc": None}, {"epoch": 2, "step": 2}]
    history.append({"epoch": 3, "step": 3, "test_acc": 0.5})
    [result], _ = load(add(history=history).parent)
    assert result.curve == ((3, 0.5),)


def test_nothing_to_report_says_why(add: Add, tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(NothingToReport, match="no job"):
        load(tmp_path)
    (add() / "result.json").unlink()
    with pytest.raises(NothingToReport, match=r"none of 1 jobs has a valid result.*not begun"):
        load(tmp_path / "demo")


def test_the_folder_above_a_sweep_names_the_sweep(add: Add, tmp_path: Path) -> None:
    add()
    with pytest.raises(NothingToReport, match=r"did you mean .*demo\?"):
        load(tmp_path)


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    "place",
    [
        "seed", "config", "config.epochs", "config.model", "config.model._target_", "labels.model", "data.fingerprint",
        "seconds", "peak_memory", "cost.timed", "cost.timed.threads", "cost.dense.macs", "cost.pruned.file_bytes",
        "cost.pruned.latency.128", "cost.dense.latency.1.median", "sparsity.layers", "history", "versions",
    ],
)  # fmt: skip
def test_a_damaged_value_costs_at_most_its_own_job(add: Add, place: str) -> None:
    """Whatever is read can be shown; what cannot is excluded by name."""
    for seed, value in enumerate([None, "x", [], {"a": [1]}, 10**400, deep(300)]):
        damage(add("usp", 0.4, seed), lambda content, value=value: set_at(content, place.split("."), value))
    good = add("usp", 0.2)
    results, unusable = load(good.parent)
    assert good in [result.folder for result in results]
    assert len(results) + len(unusable) == 7
    tables = [(members, rows(members)) for members in group(results)]
    formats.comma_separated(tables)
    formats.markdown(tables, unusable, results)
    page.html("demo", tables, [], results, unusable)
    Console(file=io.StringIO()).print(list_jobs(good.parent))


def set_at(content: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value

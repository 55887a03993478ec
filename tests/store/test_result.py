"""job.json and result.json round-trip, files of 0.1.0 too, and impossible values are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from prunelab.store.folder import RunDir
from prunelab.store.identity import comparable, digest, flat
from prunelab.store.job import SCHEMA, Job
from prunelab.store.renamed import NOW, with_current_paths
from prunelab.store.result import Epoch, Result, read, read_without_layers

EARLIER = Path(__file__).with_name("result-0.1.0.json")  # of a job that 0.1.0 ran: prune=sp rate=0.5, ResNet-8, shapes


@pytest.fixture
def earlier() -> dict[str, Any]:
    return json.loads(EARLIER.read_text())


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_result_of_0_1_0_is_read_and_written_without_a_difference(earlier, tmp_path: Path) -> None:
    assert as_json(Result.from_json(earlier, tmp_path).to_json()) == earlier


@pytest.mark.parametrize("method", ["prune=none", "prune=sp rate=0.5", "prune=lottery rate=0.3", "prune=scan"])
def test_a_result_is_read_as_it_was_written(method: str, trained) -> None:
    more = ["prune.pruning.rates=2", "prune.pruning.batches=2"] if "scan" in method else []
    folder = trained(*method.split(), *more)
    written = json.loads((folder / "result.json").read_text())
    result = read(folder)
    assert as_json(result.to_json()) == written
    assert written["schema"] == SCHEMA
    assert result.job == RunDir(folder).job()
    assert (result.scan is not None) == ("scan" in method)


def test_weights_that_no_method_prunes_stand_in_the_file(earlier, tmp_path: Path) -> None:
    earlier["sparsity"]["unprunable"] = {"embedding.weight": 96}
    result = Result.from_json(earlier, tmp_path)
    assert result.sparsity.unprunable == {"embedding.weight": 96}
    assert as_json(result.to_json()) == earlier


def test_reports_leave_out_only_the_layers_of_each_epoch(earlier, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(EARLIER.read_text())
    whole, kept = read(tmp_path), read_without_layers(tmp_path)
    assert [row.layers for row in kept.history] == [{}] * len(whole.history)
    for row in earlier["history"]:
        row["layers"] = {}
    assert as_json(kept.to_json()) == earlier


def test_numbers_are_those_of_the_file(earlier, tmp_path: Path) -> None:
    result = Result.from_json(earlier, tmp_path)
    assert result.accuracy == result.curve[-1][1] == earlier["accuracy"]
    assert result.sparsity.attained == 0.5
    assert result.pruned.macs == earlier["cost"]["pruned"]["macs"]
    assert result.latency == pytest.approx(
        earlier["cost"]["pruned"]["latency"]["128"]["median"] / earlier["cost"]["dense"]["latency"]["128"]["median"]
    )
    assert result.timed_on == "cpu, 1 thread, in float32, not compiled"
    assert result.job.labels == {"model": "resnet8", "data": "shapes", "optim": "sgd"}


def test_a_class_that_has_moved_since_changes_no_identity(earlier) -> None:
    settled = {key: earlier["values"][key] for key in ("precision", "compile", "data.fingerprint")}
    for config in (earlier["config"], with_current_paths(earlier["config"])):
        values = flat(config) | settled
        assert values == earlier["values"]
        assert digest(values) == earlier["identity"]
        assert digest(comparable(values)) == earlier["comparable"]
    assert with_current_paths(earlier["config"])["data"]["_target_"] == NOW["prunelab.data.shapes.Shapes"]


@pytest.mark.parametrize("path", NOW.values())
def test_every_class_that_has_moved_is_at_its_current_path(path: str) -> None:
    from hydra.utils import get_class

    assert get_class(path).__name__ == path.rpartition(".")[2]


def test_a_newer_schema_is_refused_with_the_remedy(earlier) -> None:
    with pytest.raises(ValueError, match=f"schema {SCHEMA + 1} is newer than {SCHEMA}: update prunelab to read it"):
        Job.from_json(earlier | {"schema": SCHEMA + 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 1.5}, "accuracy=1.5: expected a fraction in [0, 1]"),
        ({"accuracy": float("nan")}, "accuracy=nan: expected a fraction"),
        ({"rate": -0.1}, "rate=-0.1: expected a fraction"),
        ({"history": [{"epoch": 1, "step": 1, "test_acc": -0.5}]}, "test_acc=-0.5: expected a fraction"),
    ],
)
def test_an_impossible_number_is_refused_by_name(change: dict, message: str, earlier, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Result.from_json(earlier | change, tmp_path)


def test_a_fraction_outside_of_its_range_is_refused_inside_sparsity_too(earlier, tmp_path: Path) -> None:
    for name in ("attained", "zero_weights"):
        with pytest.raises(ValueError, match=rf"sparsity.{name}=-0.5: expected a fraction"):
            Result.from_json(earlier | {"sparsity": earlier["sparsity"] | {name: -0.5}}, tmp_path)


@pytest.mark.parametrize(
    "key", ["schema", "identity", "overrides", "config", "history", "cost", "sparsity", "accuracy", "data", "device"]
)
def test_a_file_without_an_entry_that_matters_is_no_result(key: str, earlier, tmp_path: Path) -> None:
    del earlier[key]
    (tmp_path / "result.json").write_text(json.dumps(earlier))
    with pytest.raises(LookupError, match=key):
        read(tmp_path)
    assert RunDir(tmp_path).result() is None


def test_what_was_not_measured_in_an_epoch_is_not_written() -> None:
    assert Epoch.from_json({"epoch": 0, "step": 0, "test_acc": 0.5}).to_json() == {
        "epoch": 0, "step": 0, "test_acc": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["device", "threads", "precision"])
def test_conditions_of_latency_are_whole_or_the_file_is_damaged(key: str, earlier, tmp_path: Path) -> None:
    del earlier["cost"]["timed"][key]
    with pytest.raises(LookupError, match=key):
        Result.from_json(earlier, tmp_path)


@pytest.mark.parametrize("used", [None, "x", ["x"], [["x"]], [{"torch": []}], [{"torch": {}}]])
def test_versions_that_are_none_make_a_damaged_file(used: Any, earlier, tmp_path: Path) -> None:
    assert Result.from_json(earlier | {"begun_with": [{"torch": "2.0", "threads": 1}]}, tmp_path).begun_with
    with pytest.raises((ValueError, TypeError)):
        Result.from_json(earlier | {"begun_with": used}, tmp_path)
    if used:
        with pytest.raises((ValueError, TypeError)):
            Result.from_json(earlier | {"versions": used[0]}, tmp_path)


def test_versions_are_harmless_for_a_terminal(earlier, tmp_path: Path) -> None:
    escaping = {"torch": "2.0\x1b[31m"}
    result = Result.from_json(earlier | {"versions": escaping, "begun_with": [escaping]}, tmp_path)
    assert result.job.versions == result.begun_with[0] == {"torch": "2.0\\x1b[31m"}


def test_a_job_tells_its_settings_apart_from_those_of_its_method(earlier) -> None:
    job = Job.from_json(earlier)
    assert job.variant == "sp"
    scoped = Job.from_json(earlier | {"overrides": ["prune=sp", "prune/allocation=global", "rounds=2", "seed=1"]})
    assert scoped.variant == "sp (allocation=global, rounds=2)"
    spends = ["budget=macs", "optim.finetune=0.1"]
    assert Job.from_json(earlier | {"overrides": spends}).variant == "sp (budget=macs, optim.finetune=0.1)"
    assert Job.from_json(earlier | {"method": "none", "overrides": spends}).variant == "none"


def test_dense_pretraining_is_the_same_for_every_method_that_shares_it(earlier) -> None:
    job = Job.from_json(earlier)
    other = Job.from_json(earlier | {"method": "usp", "config": earlier["config"] | {"prune": {}, "rate": 0.9}})
    dense = job.dense_pretraining()
    assert dense.values == other.dense_pretraining().values
    assert (dense.method, dense.rate, dense.pretrained, dense.config["logger"]) == ("none", 0.0, None, None)
    assert dense.config["prune"]["rewind"]["to"] == earlier["config"]["rewind"]
    assert job.config["prune"] == earlier["config"]["prune"]  # the job itself is as it was


def test_the_folder_of_a_newer_versions_job_is_refused_and_left_alone(earlier, tmp_path: Path) -> None:
    newer = json.dumps(earlier | {"schema": SCHEMA + 1, "identity": "0" * 16})
    (tmp_path / "job.json").write_text(newer)
    with pytest.raises(ValueError, match="newer than .*: update prunelab to read it, or choose another name="):
        RunDir(tmp_path).refuse_other(Job.from_json(earlier))
    assert (tmp_path / "job.json").read_text() == newer

"""Every method in conf/prune obeys the laws; a new YAML is tested without further changes."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from compose import job_from
from hydra.utils import instantiate
from killed import killed_at
from short_job import NETS, built, method_names, net_for, short_job

from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.pruning import Pruning
from prunelab.core.allocation import Allocation, Global
from prunelab.job import run as job_module
from prunelab.job.conf import conf_dir
from prunelab.job.method import Method
from prunelab.lit.datamodule import ImageDataModule

HOLD = "hold"  # takes its zeros from a pruned network; tests/job/test_hold.py has its laws
METHODS = [name for name in method_names() if name != HOLD]
PRUNING = [name for name in METHODS if name != "none"]
DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def with_dropout(method: str) -> str:
    """A network whose random streams count as well; where a method cannot prune it, another."""
    return f"model={net_for(NETS[::-1], f'prune={method}')}"


def short_job_of(method: str) -> list[str]:
    return short_job(method) if method in PRUNING else [f"prune={method}"]


def same_weights(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["state_dict"].keys() == b["state_dict"].keys() and all(
        torch.equal(tensor, b["state_dict"][name]) for name, tensor in a["state_dict"].items()
    )


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in result.items() if k not in ("seconds", "peak_memory", "state_dict", "checkpoint")}
    cost = {side: {k: v for k, v in result["cost"][side].items() if k != "latency"} for side in ("dense", "pruned")}
    history = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in result["history"]]
    return kept | {"cost": cost, "history": history}


def pruner_state(result: dict[str, Any]) -> dict[str, Any]:
    return next(v for k, v in result["checkpoint"]["callbacks"].items() if k.startswith("Pruning"))


def shrunk_parameters(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [t for name, t in state.items() if name.startswith("net.") and "running" not in name and t.dim()]


def meets(sparsity: dict[str, Any], rate: float, allocation: Allocation) -> bool:
    """Exactly: in every layer, or in all of them together, as the allocation says."""
    layers = [layer for layer in sparsity["layers"].values() if layer["units"]]
    if allocation.by_layer:
        return bool(layers) and all(layer["removed"] == round(rate * layer["units"]) for layer in layers)
    return sparsity["removed"] == round(rate * sparsity["units"])


def allocation(method: str) -> Allocation:
    return built(f"prune={method}").pruners[0].allocation


class Watch(L.Callback):
    """Checks at every hook that masked weights and their momentum are 0."""

    checks = 0

    def check(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        (pruner,) = (callback.pruner for callback in trainer.callbacks if isinstance(callback, Pruning))
        for name, mask in pruner.masks.items():
            weight = module.get_parameter(name)
            state = trainer.optimizers[0].state.get(weight, {}).values()
            for tensor in [weight, *(s for s in state if isinstance(s, torch.Tensor) and s.shape == mask.shape)]:
                assert not tensor[~mask].any(), name
            Watch.checks += 1
        Watch.checks += pruner.removed  # by surgery: nothing is left that could differ from 0

    on_train_batch_end = on_train_epoch_end = on_validation_start = on_validation_end = check

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        self.check(trainer, module)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    make = job_module.make_trainer

    def with_watch(settled, folder, callbacks, *rest):
        return make(settled, folder, [*callbacks, Watch()], *rest)

    monkeypatch.setattr(job_module, "make_trainer", with_watch)
    Watch.checks = 0


@pytest.mark.parametrize("method", PRUNING)
def test_rate_is_met_exactly_and_what_is_masked_is_zero_at_every_hook(method: str, job, watched) -> None:
    result = job(*short_job(method))
    sparsity, state = result["sparsity"], result["state_dict"]
    assert meets(sparsity, result["rate"], allocation(method))
    assert Watch.checks > 10
    assert result["history"][-1]["sparsity"] == pytest.approx(sparsity["attained"])
    pruner = pruner_state(result)
    assert sum(int((~kept).sum()) for kept in pruner["keep"].values()) == sparsity["removed"]
    for name, kept in pruner["keep"].items():
        assert kept.dtype == torch.bool
        if not pruner["removed"]:
            assert not state[name][~kept].any()
            assert state[name][kept].any()
    if pruner["removed"]:  # by callbacks/shrink, and then it was proved to compute the same
        assert result["surgery"]["certificate"]["eval_float64"] < 1e-9
        assert result["cost"]["pruned"]["params"] == sum(p.numel() for p in shrunk_parameters(state))
        assert result["cost"]["pruned"]["params"] < 0.7 * result["cost"]["dense"]["params"]


@pytest.mark.parametrize("method", PRUNING)
def test_rate_zero_ends_in_the_bits_of_dense_training(method: str, job, tmp_path: Path) -> None:
    if any(isinstance(callback, Binarize) for callback in built(f"prune={method}").others):
        pytest.skip("trains binary weights at every rate")
    dense = job("prune=none", "epochs=2", with_dropout(method), folder=tmp_path / "dense")
    overrides = [*short_job(method, rate=0), "epochs=2", with_dropout(method)]
    pruned = job(*overrides, folder=tmp_path / "zero")
    assert same_weights(dense, pruned)
    assert [e["test_loss"] for e in dense["history"]] == [e["test_loss"] for e in pruned["history"]]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_job_ends_in_the_bits_and_masks_of_one_that_was_not(method: str, job, tmp_path: Path) -> None:
    overrides = [*short_job_of(method), with_dropout(method)]
    whole = job(*overrides, folder=tmp_path / "whole")
    with killed_at(11):  # in the second epoch
        job(*overrides, folder=tmp_path / "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = job(*overrides, folder=tmp_path / "killed")
    assert same_weights(whole, resumed)
    assert without_times(whole) == without_times(resumed)
    if method != "none":
        masks, again = pruner_state(whole)["keep"], pruner_state(resumed)["keep"]
        assert all(torch.equal(masks[name], again[name]) for name in masks)


@pytest.mark.parametrize("method", PRUNING)
def test_clipping_and_accumulation_change_nothing_of_the_law(method: str, job, watched) -> None:
    options = ("+trainer.accumulate_grad_batches=2", "+trainer.gradient_clip_val=0.5", "optim=adamw")
    result = job(*short_job(method), *options)
    assert meets(result["sparsity"], result["rate"], allocation(method))
    assert Watch.checks > 10


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_its_paper_or_purpose_first_and_stands_in_the_docs(method: str) -> None:
    first = (conf_dir() / "prune" / f"{method}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 12
    assert f"| `{method}` |" in DOCS.read_text()


def test_every_method_of_the_docs_is_on_the_menu() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)) == {*METHODS, HOLD}


@pytest.mark.parametrize("part", ["criterion", "granularity", "allocation", "schedule", "regrow"])
def test_every_part_on_the_menu_fits_into_a_method(part: str, job, tmp_path: Path) -> None:
    for option in sorted((conf_dir() / "prune" / part).glob("*.yaml")):
        overrides = [f"+prune/regrow={option.stem}" if part == "regrow" else f"prune/{part}={option.stem}"]
        (pruner,) = built("prune=usp", *overrides).pruners
        if pruner.criterion.of_units:  # has nothing to go by without the callback that finds its scores
            continue
        overrides += ["prune/granularity=filter"] if pruner.criterion.of_channels else []
        extra = ["prune.pruning.pruner.schedule.every=4it", "optim.batch_size=10"] if part == "criterion" else []
        short = [*short_job("usp", *overrides, rate=0.5), *extra]
        result = job(*short, *(["epochs=1"] if part == "schedule" else []), folder=tmp_path / option.stem)
        if nothing_removed(pruner.allocation):
            assert result["sparsity"]["removed"] == 0  # as no penalty has driven any weight to 0
            continue
        assert meets(result["sparsity"], 0.5, pruner.allocation), option.stem


def nothing_removed(allocation: Allocation) -> bool:
    """Whether an allocation that goes its own way keeps all that scores above 0."""
    return allocation.own_rates and bool(allocation({"a": torch.rand(8) + 1}, 0.5)["a"].all())


def test_an_analysis_says_so_by_a_key_and_prunes_nothing() -> None:
    for name in method_names(analyses=True):
        method = built(f"prune={name}")
        assert method.callbacks == tuple(method.analyses)
        assert not method.pruners
    assert not any(built(f"prune={name}").analyses for name in METHODS)


def test_a_new_criterion_with_ten_batches_is_tested_by_being_there(job, tmp_path: Path) -> None:
    menu = tmp_path / "conf" / "prune"
    (menu / "criterion").mkdir(parents=True)
    (menu / "criterion" / "toy.yaml").write_text(
        "# @package prune.pruning.pruner.criterion\n_target_: prunelab.criteria.taylor.Taylor\nbatches: 10\n"
    )
    (menu / "toy.yaml").write_text((conf_dir() / "prune" / "snip.yaml").read_text().replace("snip", "toy"))
    short = short_job("toy", f"hydra.searchpath=[file://{menu.parent}]")
    assert "prune.pruning.pruner.criterion.batches=2" in short
    result = job(*short)
    assert meets(result["sparsity"], 0.6, Global())


@pytest.mark.parametrize("criterion", ["bn_scale", "factor"])
def test_a_criterion_for_channels_is_refused_for_single_weights(criterion: str, job) -> None:
    with pytest.raises(ValueError, match="use prune/granularity=filter"):
        job("prune=usp", f"prune/criterion={criterion}", "rate=0.5")


@pytest.mark.parametrize("method", PRUNING)
def test_every_method_takes_every_schedule(method: str, composed) -> None:
    """A value that a method adds to its own schedule would break the others."""
    for option in (conf_dir() / "prune" / "schedule").glob("*.yaml"):
        cfg = composed(f"prune={method}", f"prune/schedule={option.stem}", "rate=0.5")
        assert instantiate(cfg.prune.pruning).pruner.schedule.rate == 0.5


@pytest.mark.parametrize("method", PRUNING)
def test_callbacks_used_for_two_fits_in_a_row_do_the_same_twice(method: str, composed) -> None:
    cfg = composed(*short_job(method))
    splits = instantiate(cfg.data).load()
    settled = job_from(cfg).settled({"compile": False}, "")
    parts = Method.of(settled)
    ends = []
    for _ in range(2):
        L.seed_everything(0, verbose=False)
        data = ImageDataModule(splits, cfg.optim.batch_size, seed=0)
        run = parts.run(cfg.epochs, data.steps_per_epoch())
        module = job_module.build_module(settled, job_module.build_net(settled, 10), False, settled.epochs)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = L.Trainer(
            max_epochs=run.total // run.epoch, callbacks=list(parts.callbacks), accelerator="cpu",
            enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1, **quiet,
        )  # fmt: skip
        trainer.fit(module, data)
        assert not trainer.optimizers[0]._optimizer_step_post_hooks
        ends.append((module.state_dict(), parts.pruners[0].state_dict()["keep"]))
    (first, masks), (second, again) = ends
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())


def test_no_blank_was_left_in_the_docs() -> None:
    assert not re.findall(r"(?<![\w/])@\w+", DOCS.read_text())

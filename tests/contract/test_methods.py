"""Every method in conf/prune obeys the laws; a new YAML is tested without further changes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from compose import CONF, job_from, run_job, tiny_job
from hydra.utils import instantiate
from killed import killed_at
from omegaconf import OmegaConf
from short_job import HOLD, built, method_names, short_job

from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.pruning import Pruning
from prunelab.core.allocation import Allocation, Global
from prunelab.core.schedule import Cubic, Rounds
from prunelab.job import run as job_module
from prunelab.job.conf import conf_dir
from prunelab.job.method import Method
from prunelab.lit.datamodule import ImageDataModule

METHODS = [name for name in method_names() if name != HOLD]
PRUNING = [name for name in METHODS if name != "none"]
FEW = ("usp", "sp", "rigl", "lottery", "dsss")  # a ramp, surgery, regrowth, rewinding, factors
FEW_FAST = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in PRUNING]
NET = "model=narrow_dropout"
DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def same_weights(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["state_dict"].keys() == b["state_dict"].keys() and all(
        torch.equal(tensor, b["state_dict"][name]) for name, tensor in a["state_dict"].items()
    )


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in result.items() if k not in ("seconds", "peak_memory", "state_dict", "checkpoint")}
    cost = {side: {k: v for k, v in result["cost"][side].items() if k != "latency"} for side in ("dense", "pruned")}
    history = [{k: v for k, v in epoch.items() if "seconds" not in k} for epoch in result["history"]]
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


@contextmanager
def watched() -> Iterator[None]:
    """A job in this block has a Watch."""
    make = job_module.make_trainer

    def with_watch(settled, folder, callbacks, *rest):
        return make(settled, folder, [*callbacks, Watch()], *rest)

    Watch.checks = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "make_trainer", with_watch)
        yield
    assert Watch.checks > 10


@pytest.fixture(scope="module")
def base(tiny_images: Path) -> list[str]:
    """Overrides of every job here."""
    return [*tiny_job(tiny_images), NET, "epochs=2", "rerun=true"]


@pytest.fixture(scope="module")
def dense(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_job([*base, "prune=none"], tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module", params=PRUNING)
def pruned(request: pytest.FixtureRequest, base: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a short job of each method ends with; masked weights were 0 at every hook."""
    with watched():
        return run_job([*base, *short_job(request.param)], tmp_path_factory.mktemp(request.param))


def test_rate_is_met_exactly_and_what_is_masked_is_zero_at_every_hook(pruned: dict[str, Any]) -> None:
    sparsity, state = pruned["sparsity"], pruned["state_dict"]
    assert meets(sparsity, pruned["rate"], allocation(pruned["method"]))
    assert pruned["history"][-1]["sparsity"] == pytest.approx(sparsity["attained"])
    pruner = pruner_state(pruned)
    assert sum(int((~kept).sum()) for kept in pruner["keep"].values()) == sparsity["removed"]
    for name, kept in pruner["keep"].items():
        assert kept.dtype == torch.bool
        if not pruner["removed"]:
            assert not state[name][~kept].any()
            assert state[name][kept].any()
    if pruner["removed"]:  # by callbacks/shrink, and then it was proved to compute the same
        assert pruned["surgery"]["certificate"]["eval_float64"] < 1e-9
        assert pruned["cost"]["pruned"]["params"] == sum(p.numel() for p in shrunk_parameters(state))
        assert pruned["cost"]["pruned"]["params"] < 0.8 * pruned["cost"]["dense"]["params"]


def test_a_killed_job_ends_in_the_bits_and_masks_of_one_that_was_not(
    pruned: dict[str, Any], base: list[str], tmp_path: Path
) -> None:
    resumed = killed_and_resumed([*base, *short_job(pruned["method"])], tmp_path)
    assert same_weights(pruned, resumed)
    assert without_times(pruned) == without_times(resumed)
    masks, again = pruner_state(pruned)["keep"], pruner_state(resumed)["keep"]
    assert all(torch.equal(masks[name], again[name]) for name in masks)


def killed_and_resumed(overrides: list[str], folder: Path) -> dict[str, Any]:
    with killed_at(9):  # in the second epoch
        run_job(overrides, folder)
    assert not (folder / "result.json").exists()
    return run_job(overrides, folder)


def test_a_killed_dense_job_ends_in_the_bits_of_one_that_was_not(
    dense: dict[str, Any], base: list[str], tmp_path: Path
) -> None:
    resumed = killed_and_resumed([*base, "prune=none"], tmp_path)
    assert same_weights(dense, resumed)
    assert without_times(dense) == without_times(resumed)


@pytest.mark.parametrize("method", PRUNING)
def test_rate_zero_ends_in_the_bits_of_dense_training(
    method: str, dense: dict[str, Any], base: list[str], tmp_path: Path
) -> None:
    if any(isinstance(callback, Binarize) for callback in built(f"prune={method}").others):
        pytest.skip("trains binary weights at every rate")
    zero = run_job([*base, *short_job(method, rate=0), "epochs=2"], tmp_path)
    assert same_weights(dense, zero)
    assert [e["test_loss"] for e in dense["history"]] == [e["test_loss"] for e in zero["history"]]


@pytest.mark.parametrize("method", FEW_FAST)
def test_clipping_and_accumulation_change_nothing_of_the_law(method: str, base: list[str], tmp_path: Path) -> None:
    options = ["+trainer.accumulate_grad_batches=2", "+trainer.gradient_clip_val=0.5", "optim=adamw"]
    with watched():
        result = run_job([*base, *short_job(method), *options], tmp_path)
    assert meets(result["sparsity"], result["rate"], allocation(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_its_paper_or_purpose_first_and_stands_in_the_docs(method: str) -> None:
    first = (conf_dir() / "prune" / f"{method}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 12
    assert f"| `{method}` |" in DOCS.read_text()


def test_every_method_of_the_docs_is_on_the_menu() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)) == {*METHODS, HOLD}


@pytest.mark.parametrize("part", ["criterion", "granularity", "allocation", "schedule", "regrow"])
def test_every_part_on_the_menu_fits_into_a_method(part: str, base: list[str], tmp_path: Path) -> None:
    for option in sorted((conf_dir() / "prune" / part).glob("*.yaml")):
        overrides = [f"+prune/regrow={option.stem}" if part == "regrow" else f"prune/{part}={option.stem}"]
        (pruner,) = built("prune=usp", *overrides).pruners
        if pruner.criterion.of_units:  # has nothing to go by without the callback that finds its scores
            continue
        overrides += ["prune/granularity=filter"] if pruner.criterion.of_channels else []
        extra = ["prune.pruning.pruner.schedule.every=4it", "optim.batch_size=10"] if part == "criterion" else []
        transformer = option.stem in ("head", "stream")
        extra += ["model=patches"] if transformer else []
        short = [*base, *short_job("sp" if transformer else "usp", *overrides, rate=0.5), *extra, "epochs=1"]
        result = run_job(short, tmp_path / option.stem)
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


def test_a_new_criterion_with_ten_batches_is_tested_by_being_there(base: list[str], tmp_path: Path) -> None:
    menu = tmp_path / "conf" / "prune"
    (menu / "criterion").mkdir(parents=True)
    (menu / "criterion" / "toy.yaml").write_text(
        "# @package prune.pruning.pruner.criterion\n_target_: prunelab.criteria.taylor.Taylor\nbatches: 10\n"
    )
    (menu / "toy.yaml").write_text((conf_dir() / "prune" / "snip.yaml").read_text().replace("snip", "toy"))
    path = f"hydra.searchpath=[{menu.parent.as_uri()},{CONF}]"
    short = short_job("toy", path)
    assert "prune.pruning.pruner.criterion.batches=2" in short
    result = run_job([path, *base, *short], tmp_path / "job")  # of two search paths Hydra takes the first
    assert meets(result["sparsity"], 0.6, Global())


@pytest.mark.parametrize("criterion", ["bn_scale", "factor"])
def test_a_criterion_for_channels_is_refused_for_single_weights(criterion: str, job) -> None:
    with pytest.raises(ValueError, match="use prune/granularity=filter"):
        job("prune=usp", f"prune/criterion={criterion}", "rate=0.5")


@pytest.mark.parametrize("method", PRUNING)
def test_what_a_method_adds_to_its_schedule_is_a_value_of_every_schedule(method: str) -> None:
    """Another would break `prune/schedule=`."""
    added = OmegaConf.select(OmegaConf.load(conf_dir() / "prune" / f"{method}.yaml"), "pruning.pruner.schedule")
    for schedule in (Cubic, Rounds):
        assert set(added or {}) <= {field.name for field in fields(schedule)}


@pytest.mark.slow
@pytest.mark.parametrize("method", PRUNING)
def test_every_method_takes_every_schedule(method: str, composed) -> None:
    for option in (conf_dir() / "prune" / "schedule").glob("*.yaml"):
        cfg = composed(f"prune={method}", f"prune/schedule={option.stem}", "rate=0.5")
        assert instantiate(cfg.prune.pruning).pruner.schedule.rate == 0.5


@pytest.mark.parametrize("method", FEW_FAST)
def test_callbacks_used_for_two_fits_in_a_row_do_the_same_twice(method: str, composed) -> None:
    cfg = composed(*short_job(method), NET)
    splits = instantiate(cfg.data).load()
    settled = job_from(cfg).settled({"compile": False}, "")
    parts = Method.of(settled)
    ends = []
    for _ in range(2):
        L.seed_everything(0, verbose=False)
        data = ImageDataModule(splits, cfg.optim.batch_size, seed=0)
        run = parts.run(cfg.epochs, data.steps_per_epoch())
        module = job_module.build_module(settled, job_module.build_net(settled, 10)[0], 10, False, settled.epochs)
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

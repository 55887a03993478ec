"""Every file in conf/prune obeys the laws. A new method is tested by being there."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate

from prunelab.callbacks.pruning import Pruning
from prunelab.job import run as job_module
from prunelab.job.conf import conf_dir
from prunelab.job.method import Method
from prunelab.lit.classifier import Classifier
from prunelab.lit.datamodule import ImageDataModule

FILES = (conf_dir() / "prune").glob("*.yaml")
METHODS = sorted(path.stem for path in FILES if not path.read_text().startswith("# A look, no method"))
PRUNING = [name for name in METHODS if name != "none"]
DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def asked(method: str, rate: float | None = None) -> list[str]:
    """A short job by this method, at a rate that it can meet."""
    text = (conf_dir() / "prune" / f"{method}.yaml").read_text()
    if rate is None:
        rate = 0.5 if "granularity: nm" in text else 0.6
    overrides = [f"prune={method}", f"rate={rate}"]
    # Rounds of one epoch: of tickets there are five, and a kill in the second epoch falls between two prunings.
    overrides += ["epochs=1"] if re.search("schedule: (tickets|rounds)", text) else []
    overrides += ["prune.pruning.pruner.regrow.every=3it"] if "regrow:" in text else []
    overrides += ["prune.pruning.pruner.passes=5"] if "passes:" in text else []
    overrides += ["model=keras_cnn"] if re.search("granularity: (neuron|channels)", text) else []
    scored = re.search(r"criterion: (snip|grasp)", text)
    return overrides + (["prune.pruning.pruner.criterion.batches=2"] if scored else [])


def with_dropout(method: str) -> str:
    """A net whose random streams count as well; where a method needs norms, one without."""
    text = (conf_dir() / "prune" / f"{method}.yaml").read_text()
    return "model=resnet8" if "criterion: bn_scale" in text else "model=keras_cnn"


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


def meets(sparsity: dict[str, Any], rate: float, allocation: str) -> bool:
    """Exactly: in every layer, or in all of them together, as the allocation says."""
    layers = [layer for layer in sparsity["layers"].values() if layer["units"]]
    if allocation in ("uniform", "explicit"):
        return bool(layers) and all(layer["removed"] == round(rate * layer["units"]) for layer in layers)
    return sparsity["removed"] == round(rate * sparsity["units"])


def allocation(method: str) -> str:
    found = re.search(r"allocation: (\w+)", (conf_dir() / "prune" / f"{method}.yaml").read_text())
    assert found
    return found[1]


class Watch(L.Callback):
    """Looks whenever anyone can look: what is masked and its momentum are 0."""

    looks = 0

    def look(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        (pruner,) = (callback.pruner for callback in trainer.callbacks if isinstance(callback, Pruning))
        for name, mask in pruner.masks.items():
            weight = module.get_parameter(name)
            state = trainer.optimizers[0].state.get(weight, {}).values()
            for tensor in [weight, *(s for s in state if isinstance(s, torch.Tensor) and s.shape == mask.shape)]:
                assert not tensor[~mask].any(), name
            Watch.looks += 1
        Watch.looks += pruner.removed  # cut out: there is nothing left that could be anything but 0

    on_train_batch_end = on_train_epoch_end = on_validation_start = on_validation_end = look

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        self.look(trainer, module)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    make = job_module.make_trainer

    def with_watch(cfg, folder, precision, callbacks, *rest):
        return make(cfg, folder, precision, [*callbacks, Watch()], *rest)

    monkeypatch.setattr(job_module, "make_trainer", with_watch)
    Watch.looks = 0


@pytest.mark.parametrize("method", PRUNING)
def test_rate_is_met_exactly_and_what_is_masked_is_zero_at_every_look(method: str, job, watched) -> None:
    result = job(*asked(method))
    sparsity, state = result["sparsity"], result["state_dict"]
    assert meets(sparsity, result["rate"], allocation(method))
    assert Watch.looks > 10
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


@pytest.mark.parametrize("method", [m for m in PRUNING if m != "binary"])  # which is binary at every rate
def test_rate_zero_ends_in_the_bits_of_dense_training(method: str, job, tmp_path: Path) -> None:
    dense = job("prune=none", "epochs=2", with_dropout(method), folder=tmp_path / "dense")
    overrides = [*asked(method, rate=0), "epochs=2", with_dropout(method)]
    pruned = job(*overrides, folder=tmp_path / "zero")
    assert same_weights(dense, pruned)
    assert [e["test_loss"] for e in dense["history"]] == [e["test_loss"] for e in pruned["history"]]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_job_ends_in_the_bits_and_masks_of_one_that_was_not(
    method: str, job, tmp_path: Path, monkeypatch
) -> None:
    overrides = [*(asked(method) if method != "none" else ["prune=none"]), with_dropout(method)]
    whole = job(*overrides, folder=tmp_path / "whole")
    train = Classifier.training_step

    def dies_in_epoch_2(self, *args):
        if self.global_step == 11:
            raise KeyError("killed")
        return train(self, *args)

    monkeypatch.setattr(Classifier, "training_step", dies_in_epoch_2)
    with pytest.raises(KeyError, match="killed"):
        job(*overrides, folder=tmp_path / "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    monkeypatch.undo()
    resumed = job(*overrides, folder=tmp_path / "killed")
    assert same_weights(whole, resumed)
    assert without_times(whole) == without_times(resumed)
    if method != "none":
        masks, again = pruner_state(whole)["keep"], pruner_state(resumed)["keep"]
        assert all(torch.equal(masks[name], again[name]) for name in masks)


@pytest.mark.parametrize("method", PRUNING)
def test_clipping_and_accumulation_change_nothing_of_the_law(method: str, job, watched) -> None:
    options = ("+trainer.accumulate_grad_batches=2", "+trainer.gradient_clip_val=0.5", "optim=adamw")
    result = job(*asked(method), *options)
    assert meets(result["sparsity"], result["rate"], allocation(method))
    assert Watch.looks > 10


@pytest.mark.parametrize("method", METHODS)
def test_a_method_tells_its_paper_or_purpose_first_and_stands_in_the_docs(method: str) -> None:
    first = (conf_dir() / "prune" / f"{method}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 12
    assert f"| `{method}` |" in DOCS.read_text()


def test_every_method_of_the_docs_is_on_the_menu() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize("part", ["criterion", "granularity", "allocation", "schedule", "regrow"])
def test_every_part_on_the_menu_fits_into_a_method(part: str, job, tmp_path: Path) -> None:
    for option in sorted((conf_dir() / "prune" / part).glob("*.yaml")):
        given = f"+prune/regrow={option.stem}" if part == "regrow" else f"prune/{part}={option.stem}"
        if option.stem == "factor":  # has nothing to go by without the callback that prune=dsss brings
            continue
        own = {
            "neuron": ["model=keras_cnn"],
            "channels": ["model=keras_cnn"],
            "bn_scale": ["prune/granularity=filter"],
        }.get(option.stem, [])
        extra = own + {
            "regrow": ["prune.pruning.pruner.regrow.every=2it"],
            "schedule": ["epochs=1"],
            "criterion": ["prune.pruning.pruner.schedule.every=4it", "optim.batch_size=10"],
        }.get(part, [])
        result = job("prune=usp", given, "rate=0.5", *extra, folder=tmp_path / option.stem)
        if option.stem == "zeros":
            assert result["sparsity"]["removed"] == 0  # as no penalty has driven any weight there
            continue
        chosen = option.stem if part == "allocation" else "uniform"
        assert meets(result["sparsity"], 0.5, chosen), option.stem


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
    cfg = composed(*asked(method))
    splits = instantiate(cfg.data).load()
    parts = Method.of(cfg)
    ends = []
    for _ in range(2):
        L.seed_everything(0, verbose=False)
        data = ImageDataModule(splits, cfg.optim.batch_size, seed=0)
        run = parts.run(cfg.epochs, data.steps_per_epoch())
        module = job_module.build_module(cfg, job_module.build_net(cfg, 10), 10, False, cfg.epochs)
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

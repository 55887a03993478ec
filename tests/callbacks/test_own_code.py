"""Pruning beside code of one's own that would undo, or cannot give, what it needs: said or refused, never silent."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks import Pruning
from prunelab.core.allocation import Uniform
from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.scoring import Scoring
from prunelab.criteria.norm import Norm
from prunelab.criteria.taylor import Taylor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]
LATE = Rounds(rate=0.5, start="3ep")


class Own(L.LightningModule):
    """`training_step` takes a batch in the form that `read` understands."""

    def __init__(self, read: Any = tuple, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = self.read(batch)
        return nn.functional.mse_loss(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(
    folder: Path, callbacks: list[L.Callback], module: Own | None = None, data: Any = None, **options: Any
) -> tuple[Own, L.Trainer]:
    module, ckpt = module or Own(), options.pop("ckpt_path", None)
    generator = torch.Generator().manual_seed(0)
    pairs = TensorDataset(torch.randn(32, 8, generator=generator), torch.randn(32, 3, generator=generator))
    trainer = L.Trainer(
        callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **{"max_epochs": 4, "enable_checkpointing": False} | options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data or pairs, batch_size=8), ckpt_path=ckpt)
    return module, trainer


def pruning(schedule: Schedule, criterion: Criterion | None = None) -> Pruning:
    return Pruning(Pruner(criterion or Norm(), Weight(), Uniform(), schedule))


class Averages(L.Callback):
    """Somebody's moving average, put in place of the weights at the end."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.copy = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        for name, value in pl_module.state_dict().items():
            self.copy[name].lerp_(value, 0.5)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.load_state_dict(self.copy)


@pytest.mark.parametrize("first", [True, False])
def test_zeros_that_another_callback_undid_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: bool
) -> None:
    callbacks = [pruning(Cubic(rate=0.8, end=0.5, every="1it")), Averages()]
    module, _ = fit(tmp_path, callbacks if first else callbacks[::-1])
    assert module.net[0].weight.all()
    assert "what was pruned to 0.8 is no longer 0" in caplog.text


def test_zeros_that_stay_are_not_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, [pruning(Cubic(rate=0.8, end=0.5, every="1it"))])
    assert not [r for r in caplog.records if r.name.startswith("prunelab") and r.levelname == "WARNING"]


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.parametrize(("rate", "said"), [(0.5, True), (0.8, False), (0.9, False)])
def test_masks_of_a_checkpoint_beyond_the_schedule_are_said(tmp_path: Path, caplog, rate: float, said: bool) -> None:
    kept = ModelCheckpoint(tmp_path, filename="last")
    fit(tmp_path, [pruning(Cubic(rate=0.8, end=0.5, every="1it")), kept], enable_checkpointing=True)
    again = pruning(Cubic(rate=rate, end=0.9, every="1it"))
    fit(tmp_path, [again], ckpt_path=kept.best_model_path, max_epochs=8)
    assert again.pruner.rate == max(rate, 0.8)
    assert ("already pruned" in caplog.text) == said


def dicts() -> list[dict[str, Tensor]]:
    return [{"x": torch.ones(8), "y": torch.ones(3)}] * 32


def triples() -> list[tuple[Tensor, ...]]:
    return [(torch.ones(8), torch.ones(8), torch.ones(3))] * 32


BATCHES = {
    "dicts": (dicts(), lambda batch: (batch["x"], batch["y"]), 3, "a batch of type dict, scoring takes"),
    "triples": (triples(), lambda batch: (batch[0], batch[2]), 3, "a batch of 3 parts, scoring takes"),
    "one output": (
        None,
        lambda batch: (batch[0], batch[1][:, :1]),
        1,
        r"outputs \(8, 1\) are not those of several classes",
    ),
}


@pytest.mark.parametrize(("data", "read", "outputs", "message"), BATCHES.values(), ids=BATCHES)
def test_what_scoring_cannot_use_is_refused_before_the_first_step(
    tmp_path: Path, data: Any, read: Any, outputs: int, message: str
) -> None:
    module = Own(read, outputs)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, [pruning(LATE, Taylor())], module, data)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    fit(tmp_path, [pruning(LATE)], Own(read, outputs), data)  # which takes no data


@dataclass(frozen=True)
class Noisy(Criterion):
    """Of all random streams, in the shape of a filter where `wrong`."""

    wrong: bool = False
    batches: int = 2

    def __call__(self, ctx: Context) -> dict[str, Tensor]:
        x = ctx.batches(self.batches)[0][0]
        noise = {n: torch.rand_like(w) + torch.rand(w.shape, generator=ctx.generator) for n, w in ctx.params.items()}
        ctx.net(x)  # in training mode
        return {name: score[:1] if self.wrong else score for name, score in noise.items()}


@dataclass(frozen=True)
class Returns(Criterion):
    """One score a row, without data."""

    def __call__(self, ctx: Context) -> dict[str, Tensor]:
        return {name: w.detach().abs().mean(1, keepdim=True) for name, w in ctx.params.items()}


def test_scores_of_a_wrong_shape_are_refused_before_the_first_step(tmp_path: Path) -> None:
    for criterion in (Noisy(wrong=True), Returns()):
        module = Own()
        before = copy.deepcopy(module.state_dict())
        with pytest.raises(ValueError, match="expected floats in the shape of the weight"):
            fit(tmp_path, [pruning(LATE, criterion)], module)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@dataclass(frozen=True)
class Remembers(Criterion):
    """Has seen nothing before the first step."""

    watches: ClassVar[bool] = True
    batches: int = 1

    def __call__(self, ctx: Context) -> dict[str, Tensor]:
        return {name: ctx.memory[name] for name in ctx.params}

    def watch(self, params: Mapping[str, Tensor], memory: dict[str, Tensor]) -> None:
        memory.update({name: w.grad.abs() for name, w in params.items() if w.grad is not None})


@dataclass(frozen=True)
class OfTraining(Criterion):
    """Reads the gradient that training has left, of which there is none before the first step."""

    def __call__(self, ctx: Context) -> dict[str, Tensor]:
        return {name: w.grad.abs() for name, w in ctx.params.items()}


@dataclass(frozen=True)
class OfTwo(Criterion):
    """Unpacks its batches."""

    batches: int = 2

    def __call__(self, ctx: Context) -> dict[str, Tensor]:
        first, second = ctx.batches(2)
        return {name: w.detach().abs() * (first[0].mean() - second[0].mean()).abs() for name, w in ctx.params.items()}


class Fused(L.Callback):
    """Puts another network in the place of the trained one."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.net = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3))


class Frozen(L.Callback):
    """All layers, until the second epoch."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.requires_grad_(False).net[2].bias.requires_grad_(True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch:
            pl_module.requires_grad_(True)


UNSCORED = {
    "no rate": ([pruning(Rounds(rate=0.0), Taylor())], dicts(), lambda batch: (batch["x"], batch["y"])),
    "gradient": ([pruning(LATE, OfTraining())], None, tuple),
    "two batches": ([pruning(LATE, OfTwo())], None, tuple),
    "watched": ([pruning(LATE, Remembers())], None, tuple),
    "frozen": ([Pruning(Pruner(Taylor(), Weight(), Uniform(), LATE), nn.functional.mse_loss), Frozen()], None, tuple),
}


@pytest.mark.parametrize(("callbacks", "data", "read"), UNSCORED.values(), ids=UNSCORED)
def test_what_is_not_scored_yet_or_ever_is_not_refused(tmp_path: Path, callbacks: Any, data: Any, read: Any) -> None:
    fit(tmp_path, callbacks, Own(read), data)
    assert callbacks[0].pruner.rate == callbacks[0].pruner.schedule.rate


def test_the_look_at_the_first_batch_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> tuple[dict[str, Tensor], Tensor]:
        L.seed_everything(0, verbose=False)
        module = Own()
        module.net.insert(1, nn.BatchNorm1d(16))
        module.net.insert(3, nn.Dropout(0.5))
        method = pruning(LATE, Noisy())
        fit(tmp_path, [method], module)
        return module.state_dict(), method.pruner.state_dict()["generator"]

    looked, stream = trained()
    seen: list[object] = []
    monkeypatch.setattr(Scoring, "check", lambda self, batch: seen.append(batch))
    blind, other = trained()
    assert seen
    assert torch.equal(stream, other)
    assert not all(w.all() for w in blind.values())
    for name, value in looked.items():
        assert torch.equal(value, blind[name]), name


def test_the_look_is_one_and_none_where_training_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(Scoring, "check", lambda self, batch: looks.append(batch))
    kept = ModelCheckpoint(tmp_path, filename="last")
    fit(tmp_path, [pruning(LATE), kept], max_epochs=4, enable_checkpointing=True)
    assert len(looks) == 1
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        fit(tmp_path, [pruning(Rounds(rate=0.8, start="5ep"))], ckpt_path=kept.best_model_path, max_epochs=8)
    assert len(looks) == 1


def test_a_network_that_a_callback_replaces_is_not_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, [pruning(Rounds(rate=0.5, start=0.0)), Fused()])
    assert "no longer 0" not in caplog.text


def test_what_diverged_is_not_laid_to_a_callback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = Own(lambda batch: (batch[0], batch[1] * torch.inf))
    fit(tmp_path, [pruning(Rounds(rate=0.5, start=0.0))], module)
    assert module.net[0].weight.isnan().any()
    assert "no longer 0" not in caplog.text

"""L1 and a threshold in the retraining: steps worked by hand, and what a job then reports and saves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import narrow
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import prunelab
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.shrink import Shrink
from prunelab.callbacks.soft_threshold import SoftThreshold
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Granularity, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]
LR, STEPS = 0.1, 4  # of the optimizer; of an epoch
START = [0.5, -0.25, 0.06, 0.01]


class Idle(L.LightningModule):
    """Four weights and a bias which no loss moves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        with torch.no_grad():
            self.net.weight.copy_(torch.tensor([START]))
            self.net.bias.fill_(0.2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return 0 * self.net(batch[0]).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), LR)


class Filters(L.LightningModule):
    """Learns something; half of its first filters can be removed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
        self.example_input_array = torch.zeros(2, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self(batch[0].view(-1, 1, 2, 2)) - 1).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), LR, momentum=0.9)


class Weights(L.Callback):
    """Keeps the first weights after each step, as later callbacks see them; and fails in one of them."""

    def __init__(self, die: int | None = None) -> None:
        self.seen: list[list[float]] = []
        self.die = die

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.seen.append(next(pl_module.parameters()).flatten().tolist())
        if trainer.global_step == self.die:
            raise KeyError("died")


Fit = Callable[..., L.Trainer]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    data = TensorDataset(torch.randn(2 * STEPS, 4, generator=torch.Generator().manual_seed(0)))

    def run(*callbacks: L.Callback, module: L.LightningModule, ckpt: Path | None = None, **options: Any) -> L.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        default = {"max_epochs": 2, "accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": tmp_path}
        trainer = L.Trainer(callbacks=list(callbacks), **(quiet | default | options))
        trainer.fit(module, Resumable(data, 2), ckpt_path=ckpt)
        return trainer

    return run


def pruning(rate: float = 0.25, units: Granularity | None = None, rounds: int = 1) -> Pruning:
    return Pruning(Pruner(Norm(1), units or Weight(), Uniform(), Rounds(rate, rounds, start="1ep")))


def test_weights_lose_lr_l1_a_step_from_the_last_pruning_on_and_small_ones_end_at_0(fit: Fit) -> None:
    """0.02 a step in the four steps after the first epoch, as 0.1 * 0.2; then -0.17 is below 0.2."""
    module, watch = Idle(), Weights()
    trainer = fit(pruning(), SoftThreshold(l1=0.2, threshold=0.2), watch, module=module)
    expected = [START] * 4 + [[0.5 - 0.02 * k, -0.25 + 0.02 * k, max(0, 0.06 - 0.02 * k), 0] for k in (1, 2, 3)]
    torch.testing.assert_close(torch.tensor(watch.seen), torch.tensor([*expected, [0.42, 0, 0, 0]]))
    assert watch.seen[-1][1:] == [0, 0, 0]
    assert module.net.bias.item() == pytest.approx(0.2)
    assert trainer.callback_metrics["weights/zero"] == 0.75


def test_between_two_rounds_nothing_is_pulled(fit: Fit) -> None:
    """The second pruning of four weights comes after six of eight steps, and two of 0.02 are left."""
    watch = Weights()
    fit(pruning(0.5, rounds=2), SoftThreshold(l1=0.2), watch, module=Idle())
    assert [round(step[0], 4) for step in watch.seen] == [0.5] * 6 + [0.48, 0.46]


@pytest.mark.parametrize(("rate", "numbers"), [(0.0, {"l1": 0.2, "threshold": 0.2}), (0.25, {})])
def test_without_a_rate_or_numbers_nothing_is_done(fit: Fit, rate: float, numbers: dict[str, float]) -> None:
    module = Idle()
    fit(pruning(rate), SoftThreshold(**numbers), module=module)
    torch.testing.assert_close(module.net.weight[0].detach(), torch.tensor([*START[:3], 0.0 if rate else START[3]]))


@pytest.mark.parametrize("die", [3, 6])
def test_killed_before_or_in_the_retraining_it_ends_with_the_same_bits(fit: Fit, tmp_path: Path, die: int) -> None:
    def callbacks(die: int | None = None) -> list[L.Callback]:
        return [pruning(0.5, Filter()), Shrink(), SoftThreshold(l1=0.1, threshold=0.05), Weights(die)]

    whole = Filters()
    fit(*callbacks(), module=whole)
    saving = ModelCheckpoint(tmp_path / "saved", save_last=True, every_n_train_steps=1)
    with pytest.raises(KeyError):
        fit(*callbacks(die), saving, module=Filters(), enable_checkpointing=True)
    resumed = Filters()
    fit(*callbacks(), module=resumed, ckpt=tmp_path / "saved" / "last.ckpt")
    assert whole.net[0].weight.shape[0] == 2
    assert any((weight == 0).any() for weight in (whole.net[0].weight, whole.net[3].weight))
    for name, p in whole.named_parameters():
        assert torch.equal(resumed.get_parameter(name), p)


@pytest.mark.parametrize("numbers", [{"l1": -0.1}, {"threshold": -1.0}, {"l1": float("nan")}])
def test_a_number_below_0_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"=(-0.1|-1.0|nan): expected a number >= 0"):
        SoftThreshold(**numbers)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (lambda: [SoftThreshold(0.1)], "there is none: add it"),
        (lambda: [SoftThreshold(0.1), pruning()], "Pruning comes after SoftThreshold .*: list Pruning before it"),
        (lambda: [pruning(), SoftThreshold(0.1), EMAWeightAveraging()], "EMAWeightAveraging beside SoftThreshold"),
    ],
)
def test_what_it_cannot_work_with_is_refused(fit: Fit, callbacks: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(*callbacks(), module=Idle())


def test_a_job_reports_and_saves_the_weights_at_0(job, tmp_path: Path) -> None:
    method = ("prune=dsss", "rate=0.5", "epochs=1")
    thin = job(*method, "prune.soft_threshold.l1=0.3", "prune.soft_threshold.threshold=0.02")
    plain = job(*method, folder=tmp_path / "plain")
    small = prunelab.load(tmp_path / "job" / "model.safetensors", into=narrow.resnet8())
    params = [p for p in small.parameters() if p.dim() > 1]
    nonzero = sum(int(p.count_nonzero()) for p in small.parameters())
    assert thin["cost"]["pruned"]["nonzero"] == nonzero < 0.7 * plain["cost"]["pruned"]["nonzero"]
    assert not any(((p != 0) & (p.abs() < 0.02)).any() for p in params)
    assert json.loads((tmp_path / "job" / "result.json").read_text())["accuracy"] == thin["history"][-1]["test_acc"]

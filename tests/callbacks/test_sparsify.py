"""Zeros after the last pruning: L1 steps and threshold by hand, what stays as it was, jobs that end with them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from compose import job_from
from killed import killed_at
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import prunelab
from prunelab.callbacks import Binarize, Pruning, Rewind, Shrink, Sparsify
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]


class Slope(L.LightningModule):
    """Its loss falls along a slope: the gradient is 0.5 in the first weight, and 0 elsewhere.

    Four steps of SGD at 0.1, 0.05, 0.025 and 0.0125.
    """

    def __init__(self, momentum: float = 0.0, lr: float | None = 0.1) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 1), nn.BatchNorm1d(1)
        self.layer.weight.data = torch.tensor([[1.0, -0.4, 0.2, 0.05]])
        self.layer.bias.data = torch.tensor([0.03])
        self.momentum, self.lr = momentum, lr

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return 0.5 * self.layer.weight[0, 0] + 0 * sum(p.sum() for p in self.parameters())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=self.momentum)
        if self.lr is None:  # as of optimizers that find steps of their own
            optimizer.param_groups[0]["lr"] = None
            return optimizer
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Small(L.LightningModule):
    """Convolutions that lose filters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 3))
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


Fit = Callable[..., L.Trainer]


@pytest.fixture
def fit() -> Fit:
    """Four steps in one epoch."""

    def run(callbacks: list[L.Callback], module: L.LightningModule, **options: Any) -> L.Trainer:
        g = torch.Generator().manual_seed(0)
        data = TensorDataset(torch.randn(16, 1, 8, 8, generator=g), torch.randint(0, 3, (16,), generator=g))
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        usual = {"max_epochs": 1, "accelerator": "cpu", "enable_model_summary": False}
        trainer = L.Trainer(callbacks=callbacks, **(quiet | usual | options))
        trainer.fit(module, DataLoader(data, 4))
        assert not trainer.optimizers[0]._optimizer_step_post_hooks
        return trainer

    return run


def pruning(rate: float = 0.25, start: Any = "2it", skip: tuple[str, ...] = ()) -> Pruning:
    return Pruning(Pruner(Norm(1), Weight(), Uniform(), Rounds(rate, start=start), skip))


RETRAIN: dict[str, tuple[list[L.Callback], list[float]]] = {
    # w0 is 1 - 0.05 - 0.025 = 0.925 when the 0.05 is pruned, after two steps; then rates are 0.025 and 0.0125
    "finetune": ([], [0.925 - 0.0375 * 0.5 - 0.0375 * 0.5, -0.4 + 0.0375 * 0.5, 0, 0]),
    # 0.1 and 0.05 again
    "lr_rewind": ([Rewind(parameters=False, buffers=False, optimizer=False)], [0.925 - 0.15, -0.4 + 0.075, 0, 0]),
    "weight_rewind": ([Rewind()], [1 - 0.15, -0.4 + 0.075, 0, 0]),
}


@pytest.mark.parametrize("retrain", RETRAIN)
def test_steps_after_the_pruning_and_the_threshold_are_those_worked_by_hand(fit: Fit, retrain: str) -> None:
    """With l1 0.5 each step moves a weight by 0.5 * lr; the 0.2 ends at 0.18125 or 0.125, below the threshold."""
    rewind, expected = RETRAIN[retrain]
    module = Slope()
    fit([pruning(), *rewind, Sparsify(l1=0.5, threshold=0.19)], module)
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([expected]))
    assert module.layer.weight.count_nonzero() == 2
    assert module.layer.bias.tolist() == [pytest.approx(0.03)]
    assert module.norm.weight.tolist() == [1.0]


def test_l1_and_threshold_work_without_each_other(fit: Fit) -> None:
    module = Slope()
    fit([pruning(), Sparsify(l1=0.5)], module)
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[0.8875, -0.38125, 0.18125, 0]]))
    module = Slope()
    fit([pruning(), Sparsify(threshold=0.3)], module)  # w0: 1 - 0.5 * (0.1 + 0.05 + 0.025 + 0.0125)
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[0.90625, -0.4, 0, 0]]))


def test_a_class_that_steps_its_parent_takes_one_l1_step_a_step(fit: Fit) -> None:
    """As above, whether or not an object of the parent class was made before, which torch's hooks depend on."""

    class Sgd(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    class Own(Slope):
        def configure_optimizers(self) -> Any:
            optimizer = Sgd(self.parameters(), 0.1)
            return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), "interval": "step"}]

    torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    module = Own()
    fit([pruning(), Sparsify(l1=0.5)], module)
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[0.8875, -0.38125, 0.18125, 0]]))


def test_an_l1_step_ends_at_exactly_0(fit: Fit) -> None:
    module = Slope()
    fit([pruning(), Sparsify(l1=8.0)], module)  # 8 * 0.0375 = 0.3
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[0.90625 - 0.3, -0.1, 0, 0]]))
    assert module.layer.weight[0, 2] == 0


def test_pruned_before_the_first_step_it_acts_at_all_steps_and_on_what_is_not_skipped(fit: Fit) -> None:
    module = Slope()
    fit([pruning(start=0.0), Sparsify(l1=0.5)], module)
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[0.8125, -0.30625, 0.10625, 0]]))
    module = Small()
    _, skipped = fit([pruning(skip=("body.0.*",))], plain := Small()), plain.body[0].weight
    fit([pruning(skip=("body.0.*",)), Sparsify(threshold=0.2)], module)
    assert torch.equal(module.body[0].weight, skipped)
    assert module.body[2].weight.count_nonzero() < plain.body[2].weight.count_nonzero()


def test_what_is_set_to_0_has_no_momentum_and_is_0_before_validation(fit: Fit) -> None:
    class Validated(Slope):
        zeros: list[int] = []  # noqa: RUF012

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.zeros = [*self.zeros, int((self.layer.weight == 0).sum())]

    class Look(L.Callback):
        def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            self.momentum = trainer.optimizers[0].state[module.layer.weight]["momentum_buffer"].tolist()

    module, look = Validated(momentum=0.5), Look()
    module.layer.weight.data[0, 0] = 0.6
    data = DataLoader(TensorDataset(torch.zeros(4, 1)), 4)
    module.val_dataloader = lambda: data
    fit([pruning(), Sparsify(threshold=0.5), look], module, num_sanity_val_steps=0)
    assert module.zeros == [4]
    assert look.momentum == [[0.0] * 4]
    fit([pruning(), look], Slope(momentum=0.5))
    assert look.momentum[0][0] > 0


def test_the_small_network_has_the_weights_of_the_masked_one(fit: Fit) -> None:
    def filters() -> Pruning:
        return Pruning(Pruner(Norm(2), Filter(), Uniform(), Rounds(0.5, start="2it")))

    masked, small, masks = Small(), Small(), filters()
    fit([masks, Sparsify(l1=0.2, threshold=0.05)], masked)
    fit([filters(), Shrink(), Sparsify(l1=0.2, threshold=0.05)], small)
    kept = masks.pruner.keep["body.0.weight"]
    assert small.body[0].weight.shape[0] == 3
    torch.testing.assert_close(small.body[0].weight, masked.body[0].weight[kept], rtol=1e-4, atol=1e-6)
    again = masks.pruner.keep["body.2.weight"]
    torch.testing.assert_close(small.body[2].weight, masked.body[2].weight[again][:, kept], rtol=1e-4, atol=1e-6)
    assert 0 < small.body[2].weight.count_nonzero() < small.body[2].weight.numel()


@pytest.mark.parametrize(("rate", "options"), [(0.0, {"l1": 0.5, "threshold": 0.5}), (0.5, {})])
def test_at_rate_0_and_without_values_nothing_is_done(fit: Fit, rate: float, options: dict[str, float]) -> None:
    plain, module = Small(), Small()
    fit([pruning(rate)], plain)
    fit([pruning(rate), Sparsify(**options)], module)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


def test_the_log_counts_zeros_and_names_layers_without_weights(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def said() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == "prunelab.callbacks.sparsify"]

    trainer = fit([pruning(), Sparsify(threshold=0.3)], Slope())
    assert said() == ["2 of the 4 weights left are 0, 1 of them by threshold=0.3"]
    assert trainer.callback_metrics["weights/zero"] == 0.5
    caplog.clear()
    fit([pruning(), Sparsify(threshold=9)], Slope())
    assert said()[1] == "all weights are 0: layer.weight; lower l1=0 or threshold"
    caplog.clear()

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            trainer.should_stop = trainer.global_step == 3

    fit([pruning(), Sparsify(threshold=0.3), Stop()], Slope())
    assert said() == ["training ended before its last step: no weight was set to 0 by threshold=0.3"]
    caplog.clear()
    fit([pruning(), Sparsify(l1=0.3), Stop()], Slope())
    assert said() == []


def test_what_the_optimizer_does_not_train_is_left_alone(fit: Fit) -> None:
    """A layer that it has not, and one that is frozen when all is pruned, which was in the second of four steps."""

    class Freeze(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: object) -> None:
            if trainer.global_step == 3:
                module.layer.requires_grad_(False)

    class Beside(Slope):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(4, 1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([*self.layer.parameters(), *self.norm.parameters()], 0.1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return 0 * (sum(p.sum() for p in self.parameters()) + torch.zeros(1, requires_grad=True))

    module = Beside()
    other = module.other.weight.detach().clone()
    fit([pruning(), Sparsify(l1=0.5, threshold=0.9), Freeze()], module)
    assert int((module.other.weight == other).sum()) == 3  # and the one that was pruned
    assert module.layer.weight[0, 0].item() == pytest.approx(0.95)


def test_what_does_not_fit_is_refused_before_training(fit: Fit, composed: Callable[..., Any]) -> None:
    for options, words in (
        ({"l1": -0.1}, "l1=-0.1: expected a number >= 0"),
        ({"threshold": float("nan")}, "threshold=nan: expected"),
    ):
        with pytest.raises(ValueError, match=words):
            Sparsify(**options)
    with pytest.raises(ValueError, match="Sparsify works beside one Pruning callback, there is none: add it"):
        fit([Sparsify(l1=0.1)], Slope())
    with pytest.raises(ValueError, match="EMAWeightAveraging beside Sparsify, whose copy has no zeros: leave out one"):
        fit([pruning(), Sparsify(l1=0.1), EMAWeightAveraging()], Slope())
    with pytest.raises(ValueError, match="Binarize beside Sparsify: .* leave out one of them"):
        fit([pruning(), Sparsify(threshold=0.1), Binarize()], Slope())
    with pytest.raises(ValueError, match=r"^l1=0\.1: SGD has no learning rate to go with; use l1=0$"):
        fit([pruning(), Sparsify(l1=0.1)], Slope(lr=None))
    with pytest.raises(
        ValueError, match=r"^l1=0\.1: its steps are lost in 16 bits, as of layer\.weight; use bf16-mixed"
    ):
        fit([pruning(), Sparsify(l1=0.1)], Slope().to(torch.bfloat16))
    with pytest.raises(ValueError, match=r"prune\.sparsify has settings, but neither prune= nor retrain= adds this"):
        job_from(composed("prune=gmp", "rate=0.5", "+prune.sparsify.l1=0.1"))


DSSS = ["prune=dsss", "rate=0.5", "model=resnet8", "epochs=1", "prune.scaling_factors.gamma=0.05"]
DSSS += ["prune.sparsify.l1=0.02", "prune.sparsify.threshold=0.03"]


def test_a_job_reports_the_zeros_that_its_files_have_to_the_same_bits_after_a_kill(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    whole = job(*DSSS, folder=tmp_path / "whole")
    net = prunelab.load(tmp_path / "whole" / "model.safetensors")
    layers = whole["sparsity"]["layers"]
    left = {name: layer["weights"] - layer["zeros"] for name, layer in layers.items()}
    assert left == {name: int(net.get_parameter(name).count_nonzero()) for name in layers}
    assert sum(left.values()) == round(
        (1 - whole["sparsity"]["zero_weights"]) * sum(n["weights"] for n in layers.values())
    )
    for name in layers:
        weight = whole["state_dict"][f"net.{name}"]
        assert torch.equal(weight, net.get_parameter(name)), name
        assert ((weight == 0) | (weight.abs() >= 0.03)).all(), name
    assert 0 < sum(left.values()) < sum(whole["state_dict"][f"net.{name}"].numel() for name in layers)

    for step in (4, 7, 10, 13):  # of fourteen: the units go before the eighth, the threshold follows the last
        with killed_at(step):
            job(*DSSS, "every=1it", folder=tmp_path / f"killed{step}")
        resumed = job(*DSSS, "every=1it", folder=tmp_path / f"killed{step}")
        assert all(torch.equal(tensor, resumed["state_dict"][name]) for name, tensor in whole["state_dict"].items())
        assert resumed["sparsity"] == whole["sparsity"]
        assert resumed["accuracy"] == whole["accuracy"]

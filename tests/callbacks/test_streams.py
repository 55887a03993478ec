"""Heads and streams under layer norms while a foreign LightningModule trains."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from attention_nets import EXAMPLE, encoder_layers, fused, mixers, scrambled, torchs
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from prunelab.callbacks import Pruning, Shrink
from prunelab.channels.units import Channels, Head, Stream
from prunelab.core.allocation import Uniform
from prunelab.core.network.living_norms import LivingNorm
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
]


class Foreign(L.LightningModule):
    def __init__(self, make: Callable[[], nn.Module] = fused) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = scrambled(make())
        for module in self.net.modules():
            if isinstance(module, nn.MultiheadAttention | nn.Dropout):
                module.dropout = module.p = 0.0  # of which a smaller network draws other numbers
        self.example_input_array = EXAMPLE

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0].to(self.dtype)), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.02)


class Large(L.Callback):
    """Would remove the units after training, and is stopped before: the network stays masked."""

    removes_units = True


def pruning(units: Channels | None = None) -> Pruning:
    return Pruning(Pruner(Norm(), units or Channels(), Uniform(), Cubic(rate=0.5, end=0.5, every="1it")))


@pytest.fixture
def fit(tmp_path: Path) -> Callable:
    def run(callbacks: list[L.Callback], module: L.LightningModule, ckpt: Path | None = None, **options: Any) -> None:
        g = torch.Generator().manual_seed(0)
        data = TensorDataset(torch.randn(64, 5, 3, generator=g), torch.randint(0, 2, (64,), generator=g))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        default = {"max_epochs": 3, "accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": tmp_path}
        L.Trainer(callbacks=callbacks, **(quiet | default | options)).fit(module, Resumable(data, 8), ckpt_path=ckpt)

    return run


@pytest.mark.parametrize("make", [fused, torchs, encoder_layers, mixers])
def test_the_small_net_is_trained_to_the_weights_of_the_masked_one(fit: Callable, make: Callable) -> None:
    masked, small, shrink = Foreign(make), Foreign(make), Shrink()
    fit([pruning(), Large()], masked, precision="64-true")
    fit([pruning(), shrink], small, precision="64-true")
    kept = {name: dict[int, Tensor]() for name, _ in masked.named_parameters()}
    for (name, axis), indices in shrink.plan.keep.items():
        kept[name][axis] = indices
    inner = ("in_proj_weight", "qkv.weight", "mlp.0.weight")
    assert any(name.endswith(inner) for name, axes in kept.items() if axes)
    for name, p in small.named_parameters():
        large = masked.get_parameter(name)
        for axis, indices in kept[name].items():
            large = large.index_select(axis, indices)
        torch.testing.assert_close(large, p, rtol=1e-8, atol=1e-10)
    assert not any(isinstance(module, LivingNorm) for module in small.modules())
    assert any(isinstance(module, LivingNorm) for module in masked.modules())


@pytest.mark.parametrize("make", [fused, torchs, mixers])
@pytest.mark.parametrize("died", [5, 9, 20])  # twice on the ramp, and after the surgery
def test_killed_before_or_after_surgery_it_ends_in_the_same_bits(
    fit: Callable, tmp_path: Path, make: Callable, died: int
) -> None:
    def callbacks() -> list[L.Callback]:
        saves = ModelCheckpoint(tmp_path, "at-{step}", save_top_k=-1, every_n_train_steps=1)
        return [pruning(), Shrink(), EMAWeightAveraging(decay=0.9), saves]

    whole, resumed = Foreign(make), Foreign(make)
    fit(callbacks(), whole, enable_checkpointing=True)
    fit(callbacks(), resumed, tmp_path / f"at-step={died}.ckpt", enable_checkpointing=True)
    assert whole.net.embed.weight.shape[0] == 6
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items())


def test_a_checkpoint_with_masked_norms_is_not_evaluated_as_if_they_counted_all(fit: Callable, tmp_path: Path) -> None:
    class Judged(Foreign):
        def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("loss", self.training_step(batch, batch_idx))

    saves = ModelCheckpoint(tmp_path, "at-{step}", save_top_k=-1, every_n_train_steps=1)
    fit([pruning(), Shrink(), saves], Judged(), enable_checkpointing=True)

    def test(step: int) -> None:
        callbacks = [pruning(), Shrink(), saves]
        trainer = L.Trainer(callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False)
        data = TensorDataset(torch.zeros(2, 5, 3), torch.zeros(2, dtype=torch.int64))
        trainer.test(Judged(), Resumable(data, 2), ckpt_path=tmp_path / f"at-step={step}.ckpt", verbose=False)

    with pytest.raises(ValueError, match="norm1 counts only channels that are not masked, .*: finish its"):
        test(9)
    test(20)  # after surgery


def test_a_stream_that_nothing_removes_is_refused_before_training(fit: Callable) -> None:
    module = Foreign()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"net.blocks.0.norm1.weight and 4 more .* add the callback Shrink, or"):
        fit([pruning(Stream())], module)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    fit([pruning(Head())], module)  # heads need no such thing


def test_another_fit_goes_on_with_what_the_norms_know_and_another_pruner_begins_afresh(fit: Callable) -> None:
    def living() -> dict[str, Tensor]:
        return {name: m.living for name, m in module.named_modules() if isinstance(m, LivingNorm)}

    module, callbacks = Foreign(), [pruning(Stream()), Large()]
    fit(callbacks, module, max_epochs=1)
    before = living()
    assert [int(alive.sum()) for alive in before.values()] == [6] * 5
    fit(callbacks, module, max_epochs=1)
    assert all(torch.equal(alive, before[name]) for name, alive in living().items())
    pruning(Stream()).pruner.attach(module, EXAMPLE)
    assert not living()

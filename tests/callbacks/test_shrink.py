"""Law 10 in a foreign Lightning project: surgery in the middle of training changes nothing else."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from prunelab.callbacks import Pruning, Rewind, Shrink
from prunelab.channels.blocks import Block
from prunelab.channels.equivalence.certificate import EquivalenceError
from prunelab.channels.units import Channels, Neuron, PrunableStructure
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.time import Progress
from prunelab.criteria.movement import Movement
from prunelab.criteria.norm import Norm
from prunelab.measure.compile_time import compile_seconds

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
]
STEPS = 8  # of an epoch


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.bn_b = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn_b(self.b(torch.relu(self.bn_a(self.a(x))))))


class Foreign(L.LightningModule):
    """Somebody's module: its own network, loss, optimizer and schedule."""

    def __init__(self, adam: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        stem = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Residual(), Residual()]
        self.body = nn.Sequential(*stem, nn.Flatten(), nn.Linear(288, 6), nn.ReLU(), nn.Linear(6, 3))
        self.adam = adam
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0].to(self.dtype)), batch[1])

    def configure_optimizers(self) -> Any:
        make = torch.optim.AdamW if self.adam else lambda p, lr: torch.optim.SGD(p, lr, 0.9, weight_decay=0.01)
        optimizer = make(self.parameters(), 0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Counting(Foreign):
    """Counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)


class HardCoded(Counting):
    """Flattens to a number of its own, which the small network does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return self.body[5:](self.body[:5](x).reshape(-1, 288))


class Wide(Counting):
    """Runs with no fewer than three channels, which half of them are not."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.body[:3](x)
        inner = torch.relu(self.body[3].bn_a(self.body[3].a(x)))
        if inner.shape[1] < 3:
            raise RuntimeError("too narrow")
        return self.body[4:](torch.relu(x + self.body[3].bn_b(self.body[3].b(inner))))


class Noisy(Foreign):
    """Adds noise, and drops whole inputs, in training."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.body[:3](x)
        if self.training:
            x = (x + 0.1 * torch.randn_like(x)) * torch.empty(len(x), 1, 1, 1).bernoulli_(0.9)
        return self.body[3:](x)


class HeadOutside(Counting):
    """Has a second head, which training_step alone applies to the stem's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(8, 3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        seen = self.aux(self.body[:3](batch[0]).mean((2, 3)))
        self.log("seen", seen.mean())
        return super().training_step(batch, batch_idx) + nn.functional.cross_entropy(seen, batch[1])


class HeadBehind(Counting):
    """Applies a head to what forward returns, which stays whole."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(3, 3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.steps += 1
        return nn.functional.cross_entropy(self.aux(self(batch[0])), batch[1])


def pruning(units: Any = None, schedule: Schedule | None = None) -> Pruning:
    units = units or Channels()
    return Pruning(Pruner(Norm(), units, Uniform(), schedule or Cubic(rate=0.5, end=0.5, every="1it")))


@pytest.fixture
def fit(tmp_path: Path) -> Callable:
    def run(
        callbacks: list[L.Callback], module: L.LightningModule | None = None, ckpt: Path | None = None, **options: Any
    ) -> L.Trainer:
        g = torch.Generator().manual_seed(0)
        data = TensorDataset(torch.randn(64, 1, 8, 8, generator=g), torch.randint(0, 3, (64,), generator=g))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        default = {"max_epochs": 4, "accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": tmp_path}
        trainer = L.Trainer(callbacks=callbacks, **(quiet | default | options))
        trainer.fit(module if module is not None else Foreign(), Resumable(data, 8), ckpt_path=ckpt)
        return trainer

    return run


class Momentum(L.Callback):
    """The optimizer's state at the end, before Lightning lets it go."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        optimizer = trainer.optimizers[0]
        self.owned = [p for group in optimizer.param_groups for p in group["params"]]
        self.state = {name: dict(optimizer.state[p]) for name, p in pl_module.named_parameters()}


@pytest.mark.parametrize("adam", [False, True])
def test_the_small_net_is_trained_to_the_weights_of_the_masked_one(fit: Callable, adam: bool) -> None:
    masked, small, end = Foreign(adam), Foreign(adam), Momentum()
    stays, goes, shrink = pruning(), pruning(), Shrink()
    ends = Momentum()
    fit([stays, ends], masked, precision="64-true")
    before = list(small.parameters())
    fit([goes, shrink, end], small, precision="64-true")
    assert shrink.plan is not None
    assert all(a is b for a, b in zip(before, small.parameters(), strict=True))  # parameters keep their identity
    assert {id(p) for p in end.owned} == {id(p) for p in before}
    kept = {name: dict[int, Tensor]() for name, _ in masked.named_parameters()}
    for (name, axis), indices in shrink.plan.keep.items():
        kept.setdefault(name, {})[axis] = indices
    for name, p in small.named_parameters():
        pairs = [(masked.get_parameter(name), p)]
        pairs += [(s, end.state[name][key]) for key, s in ends.state[name].items() if isinstance(s, Tensor) and s.dim()]
        for large, cut in pairs:
            for axis, indices in kept[name].items():
                large = large.index_select(axis, indices)
            torch.testing.assert_close(large, cut, rtol=1e-9, atol=1e-11)
    assert sum(p.numel() for p in small.parameters()) < 0.4 * sum(p.numel() for p in masked.parameters())


@pytest.mark.parametrize("units", [Channels(), Block()])
def test_killed_before_or_after_surgery_it_ends_in_the_same_bits(
    fit: Callable, tmp_path: Path, units: PrunableStructure
) -> None:
    def callbacks() -> list[L.Callback]:
        saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
        return [pruning(units), Shrink(), saves]

    whole = Foreign()
    fit(callbacks(), whole, enable_checkpointing=True)
    for died in (STEPS, 2 * STEPS - 1, 2 * STEPS, 3 * STEPS + 3):  # surgery is at 2 * STEPS
        resumed = Foreign()
        fit(callbacks(), resumed, tmp_path / f"at-step={died}.ckpt", enable_checkpointing=True)
        assert whole.state_dict().keys() == resumed.state_dict().keys()
        assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items()), died
        assert "on_load_checkpoint" not in vars(resumed)


def test_a_removed_block_leaves_the_optimizer(fit: Callable) -> None:
    module, end = Foreign(), Momentum()
    fit([pruning(Block()), Shrink(), end], module)
    assert sum(isinstance(m, Residual) for m in module.modules()) == 1
    assert {id(p) for p in end.owned} == {id(p) for p in module.parameters()}


@pytest.mark.parametrize("first", [True, False])
def test_an_averaged_copy_becomes_small_with_the_net_and_after_a_resume(
    fit: Callable, tmp_path: Path, first: bool
) -> None:
    def callbacks() -> list[L.Callback]:
        saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
        parts = [pruning(), Shrink()]
        return [*([EMAWeightAveraging(decay=0.9), *parts] if first else [*parts, EMAWeightAveraging(decay=0.9)]), saves]

    whole, resumed = Foreign(), Foreign()
    fit(callbacks(), whole, enable_checkpointing=True)
    assert whole.body[0].weight.shape[0] == 4
    fit(callbacks(), resumed, tmp_path / "at-step=20.ckpt", enable_checkpointing=True)
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items())


def test_a_compiled_net_follows_and_the_seconds_of_compilation_go_on(fit: Callable) -> None:
    class Look(L.Callback):
        def __init__(self) -> None:
            self.spent: list[float] = []

        def on_train_batch_end(self, *_: object) -> None:
            self.spent.append(compile_seconds())

    plain, compiled = Foreign(), Foreign()
    compiled.body.compile(backend="eager")
    fit([pruning(), Shrink()], plain)
    fit([pruning(), Shrink(), look := Look()], compiled)
    assert look.spent == sorted(look.spent)
    assert look.spent[-1] > look.spent[STEPS] > 0  # of two networks
    assert all(torch.equal(t, compiled.state_dict()[name]) for name, t in plain.state_dict().items())


def test_weights_are_rewound_before_what_is_masked_is_cut_out(fit: Callable) -> None:
    module = Foreign()
    rounds = Rounds(rate=0.5, start="2ep", training="2ep")
    rewind, shrink = Rewind(to="3it"), Shrink()
    fit([pruning(schedule=rounds), rewind, shrink], module)
    assert shrink.certificate is not None
    assert module.body[0].weight.shape[0] == 4


def test_rate_zero_cuts_nothing(fit: Callable) -> None:
    module, shrink = Foreign(), Shrink()
    fit([pruning(schedule=Cubic(rate=0.0, end=0.5, every="1it")), shrink], module)
    assert shrink.plan is None
    assert module.body[0].weight.shape[0] == 8


def test_used_twice_it_does_the_same_twice(fit: Callable) -> None:
    callbacks, ends = [pruning(), Shrink()], []
    for _ in range(2):
        module = Foreign()
        fit(callbacks, module)
        ends.append(module.state_dict())
    assert all(torch.equal(t, ends[1][name]) for name, t in ends[0].items())


def test_another_fit_of_the_small_network_goes_on_with_it_and_with_its_plan(fit: Callable, tmp_path: Path) -> None:
    masks, shrink, module = pruning(), Shrink(), Foreign()
    fit([masks, shrink], module)
    plan = shrink.state_dict()
    saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
    fit([masks, shrink, saves], module, enable_checkpointing=True)
    assert module.body[0].weight.shape[0] == 4
    assert str(shrink.state_dict()) == str(plan)
    resumed = Foreign()
    fit([pruning(), Shrink(), saves], resumed, tmp_path / "at-step=20.ckpt", enable_checkpointing=True)
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in module.state_dict().items())


def test_new_layers_in_the_same_module_are_pruned_anew(fit: Callable) -> None:
    masks, shrink, module = pruning(), Shrink(), Foreign()
    fit([masks, shrink], module)
    module.body = Foreign().body
    fit([masks, shrink], module)
    assert module.body[0].weight.shape[0] == 4


@pytest.mark.parametrize("callbacks", [[], [pruning(Weight())], [pruning(), pruning(Neuron())]])
def test_what_cannot_be_cut_out_is_refused_before_training(fit: Callable, callbacks: list[L.Callback]) -> None:
    with pytest.raises(ValueError, match="prune/granularity=filter"):
        fit([*callbacks, Shrink()])


def test_a_net_that_computes_something_else_ends_the_training(fit: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pruner, "apply", lambda *_: None)  # so that nothing is masked
    with pytest.raises(EquivalenceError, match="differs from the masked one"):
        fit([pruning(), Shrink()])


def test_it_says_how_much_is_left(fit: Callable, caplog: pytest.LogCaptureFixture) -> None:
    module = Foreign()
    with caplog.at_level(logging.INFO):
        fit([pruning(), Shrink()], module)
    assert f"{sum(p.numel() for p in module.parameters()):,} of" in caplog.text


def test_a_criterion_that_watches_training_stops_watching(fit: Callable) -> None:
    watching = Pruning(Pruner(Movement(), Channels(), Uniform(), Cubic(rate=0.5, start="1ep", end=0.5, every="1it")))
    fit([watching, Shrink()])
    assert watching.pruner.state_dict()["memory"] == {}


def test_what_was_cut_out_is_still_known_after_an_evaluation(fit: Callable) -> None:
    module, shrink = Foreign(), Shrink()
    trainer = fit([pruning(), shrink], module)
    shrink.setup(trainer, module, "test")
    shrink.teardown(trainer, module, "test")
    assert shrink.plan is not None


def test_a_checkpoint_from_before_is_refused_by_a_module_that_is_small(fit: Callable, tmp_path: Path) -> None:
    module = Foreign()
    saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
    fit([pruning(), Shrink(), saves], module, enable_checkpointing=True)
    with pytest.raises(ValueError, match="load it into a new module"):
        fit([pruning(), Shrink()], module, tmp_path / "at-step=3.ckpt")


def test_a_hook_that_the_module_has_of_its_own_is_called_and_put_back(fit: Callable, tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
    fit([pruning(), Shrink(), saves], enable_checkpointing=True)
    module, records = Foreign(), []
    hook = module.on_load_checkpoint = records.append
    fit([pruning(), Shrink(), saves], module, tmp_path / "at-step=20.ckpt", enable_checkpointing=True)
    assert len(records) == 1
    assert module.__dict__["on_load_checkpoint"] is hook


def test_after_an_exception_nothing_is_left_on_the_module(fit: Callable) -> None:
    module = Foreign()
    with pytest.raises(ValueError, match="prune/granularity=filter"):
        fit([Shrink()], module)
    assert "on_load_checkpoint" not in vars(module)


def test_a_net_with_one_unit_left_resumes(fit: Callable, tmp_path: Path) -> None:
    def callbacks() -> list[L.Callback]:
        saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
        return [pruning(Neuron(), Cubic(rate=0.8, end=0.5, every="1it")), Shrink(), saves]

    whole, resumed = Foreign(), Foreign()
    fit(callbacks(), whole, enable_checkpointing=True)
    assert whole.body[6].out_features == 1
    fit(callbacks(), resumed, tmp_path / "at-step=20.ckpt", enable_checkpointing=True)
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items())


def test_averages_that_would_stay_large_are_refused(fit: Callable) -> None:
    with pytest.raises(ValueError, match="use EMAWeightAveraging"):
        fit([pruning(), Shrink(), StochasticWeightAveraging(0.01)])


def test_on_two_devices_the_net_becomes_small_when_training_ends(
    fit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    module, records = Foreign(), []

    class Sizes(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            records.append(pl_module.body[0].weight.shape[0])

    class TwoDevices(Shrink):
        """As if there were two: the fixture's processes are one."""

        def _several(self, trainer: L.Trainer) -> bool:
            return True

    with caplog.at_level(logging.WARNING):
        fit([pruning(), Sizes(), TwoDevices()], module)
    assert set(records) == {8}
    assert module.body[0].weight.shape[0] == 4
    assert "until training ends" in caplog.text


@pytest.mark.parametrize("others", [[], [Rewind("10ep")]])
def test_a_fast_dev_run_cuts_the_net_as_well(fit: Callable, others: list[L.Callback]) -> None:
    shrink, module = Shrink(), Foreign()
    fit([pruning(schedule=Rounds(0.5, start="50ep")), *others, shrink], module, fast_dev_run=True)
    assert shrink.certificate is not None
    assert module.body[0].out_channels == 4


def test_layers_that_cannot_be_cut_are_kept_and_named_with_the_line(fit, caplog) -> None:
    module, shrink = HardCoded(), Shrink()
    fit([pruning(), shrink], module)
    assert module.body[0].out_channels == 8  # what the written-out number counts
    assert module.body[3].a.out_channels == 4
    assert shrink.certificate is not None
    assert re.search(
        r"channels of body\.0\.weight.* stay: .*shape '\[-1, 288\]' is invalid.*test_shrink.py:\d+, `ret", caplog.text
    )


def test_masks_alone_keep_what_surgery_could_not_cut(fit) -> None:
    """Masked and shrunk studies compare."""
    masked, shrunk = pruning(), pruning()
    fit([masked], HardCoded())
    fit([shrunk, Shrink()], HardCoded())
    assert masked.pruner.keep.keys() == shrunk.pruner.keep.keys()
    assert all(torch.equal(kept, shrunk.pruner.keep[name]) for name, kept in masked.pruner.keep.items())


def test_the_same_layers_are_kept_after_a_resume(fit, tmp_path: Path) -> None:
    def callbacks() -> list[L.Callback]:
        saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
        return [pruning(), Shrink(), saves]

    whole, resumed = HardCoded(), HardCoded()
    fit(callbacks(), whole, enable_checkpointing=True)
    fit(callbacks(), resumed, tmp_path / "at-step=10.ckpt", enable_checkpointing=True)  # masked, and not cut yet
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items())


def test_a_network_that_cannot_be_cut_as_far_is_refused_before_the_first_step_with_the_layer(fit) -> None:
    module = Wide()
    with pytest.raises(
        EquivalenceError, match=r"the shrunk network does not run.*too narrow.*At fault: body.3.a.weight$"
    ):
        fit([pruning(schedule=Cubic(rate=0.75, end=0.5)), Shrink()], module)
    assert module.steps == 0
    fit([pruning(schedule=Cubic(rate=0.5, end=0.5)), Shrink()], module)


def test_a_network_with_noise_is_certified(fit) -> None:
    module, shrink = Noisy(), Shrink()
    fit([pruning(), shrink], module)
    assert shrink.certificate.train_float64 < 1e-9
    assert module.body[0].out_channels == 4


def test_a_network_that_diverged_is_no_fault_of_surgery(fit) -> None:
    module = Foreign()

    class Diverged(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int
        ) -> None:
            if trainer.global_step == 16:
                pl_module.body[6].bias.data.fill_(torch.nan)

    with pytest.raises(EquivalenceError, match=r"own outputs are not finite.*body\.6\.bias is not, training"):
        fit([Diverged(), pruning(schedule=Cubic(rate=0.5, end=0.5, every="16it")), Shrink()], module)
    assert module.body[0].out_channels == 8


def test_a_head_that_reads_channels_outside_of_forward_is_refused_before_the_first_step(fit) -> None:
    module = HeadOutside()
    with pytest.raises(ValueError, match=r"test_shrink.py:\d+, `.*does not use aux.weight.*skip=\['body.0.weight'\]"):
        fit([pruning(), Shrink()], module)
    assert module.steps == 0
    skipping = Pruner(Norm(), Channels(), Uniform(), Cubic(rate=0.5, end=0.5, every="1it"), skip=["body.0.weight"])
    fit([Pruning(skipping), Shrink()], module)
    assert module.steps == 32


def test_a_head_on_what_forward_returns_is_trained(fit) -> None:
    module = HeadBehind()
    fit([pruning(), Shrink()], module)
    assert module.steps == 32
    assert module.body[0].out_channels == 4


def test_a_rehearsal_changes_nothing(fit) -> None:
    """Neither the module nor the numbers that training draws; one whose attributes cannot be copied has none."""
    ends = []
    for rehearsed in (True, False):
        module = Foreign()  # seeds
        module.uncopied = None if rehearsed else (x for x in ())
        module.body[0].register_forward_pre_hook(lambda m, args: args[0] + 0.1 * torch.randn_like(args[0]) * m.training)
        fit([pruning(schedule=Cubic(rate=0.5, end=0.5)), Shrink()], module)
        ends.append(module.state_dict())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_what_is_rehearsed_ahead_is_not_rehearsed_again_in_the_next_training(fit, monkeypatch) -> None:
    rehearsals = []
    monkeypatch.setattr("prunelab.callbacks.shrink.rehearse", lambda *_: rehearsals.append(1))
    prunes, shrink, module = pruning(schedule=Cubic(rate=0.5, end=0.5)), Shrink(), Foreign()
    prunes.pruner.attach(module, module.example_input_array)
    shrink.rehearse(module, module.example_input_array, prunes.pruner, Progress(step=0, total=32, epoch=8))
    fit([prunes, shrink], module)
    assert len(rehearsals) == 1
    fit([prunes, shrink])
    assert len(rehearsals) == 2

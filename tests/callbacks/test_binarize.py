"""Binary weights in a foreign Lightning project."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks import Binarize, Pruning, Shrink
from prunelab.callbacks.binarize import binary, drawn_size
from prunelab.callbacks.rewind import Rewind
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
]
OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, 0.01),
}
Weights = dict[str, Tensor]


class Foreign(L.LightningModule):
    """Somebody's module; notes the weights that its convolution and its linear layer compute with."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        self.make = OPTIMIZERS[optimizer]
        self.example_input_array = torch.zeros(1, 1, 8, 8)
        self.seen: list[tuple[bool, str, Tensor]] = []  # (in training, name, weight)
        for name in ("body.0", "body.4"):
            self.get_submodule(name).register_forward_hook(self._note(f"{name}.weight"))

    def _note(self, name: str) -> Callable[..., None]:
        def note(layer: nn.Module, *_: object) -> None:
            if not torch.compiler.is_exporting():  # a look at what is coupled is no step of training
                self.seen.append((self.training, name, layer.weight.detach().clone()))

        return note

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0])

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(self.parameters())


def test_a_frozen_layer_stays_real(fit) -> None:
    module = Foreign()
    module.body[0].weight.data *= 10
    module.body[0].requires_grad_(False)
    before = module.body[0].weight.clone()
    fit([Binarize()], module)
    assert torch.equal(module.body[0].weight, before)
    assert module.body[4].weight.abs().unique(dim=1).shape == (3, 1)


class Line(L.LightningModule):
    """y = w x with w = (0.5, -0.1), and the loss y^2 / 2, whose gradient is y x."""

    def __init__(self, optimizer: Callable = lambda params: torch.optim.SGD(params, 0.1)) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        self.layer.weight.data = torch.tensor([[0.5, -0.1]])
        self.make = optimizer

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean() / 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(self.parameters())


class Real(L.Callback):
    """What the parameters are before each batch, and as training ends. List it before Binarize."""

    def __init__(self) -> None:
        self.batches: list[Weights] = []
        self.end: Weights = {}

    def on_train_batch_start(self, trainer, module, *_: object) -> None:
        self.batches.append(copied(module))

    def on_train_end(self, trainer, module) -> None:
        self.end = copied(module)


class Kill(L.Callback):
    """Saves a checkpoint at a step and ends the run there."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyError("killed")


def copied(module: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def loader(n: int = 64) -> DataLoader:
    g = torch.Generator().manual_seed(0)
    return Resumable(TensorDataset(torch.randn(n, 1, 8, 8, generator=g), torch.randint(0, 3, (n,), generator=g)), 8)


def points(*x: tuple[float, float]) -> DataLoader:
    return DataLoader(TensorDataset(torch.tensor(x)))


def pruning(rate: float = 0.8, granularity=None) -> Pruning:
    return Pruning(Pruner(Norm(), granularity or Weight(), Uniform(), Cubic(rate=rate, end=0.5, every="1it")))


def is_binary(weight: Tensor) -> bool:
    """Whether each filter has one magnitude, besides 0."""
    return all(row[row != 0].abs().unique().numel() <= 1 for row in weight.flatten(1))


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    def make(callbacks: list[L.Callback], **options) -> L.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        saving = {"default_root_dir": tmp_path, "enable_checkpointing": False}
        return L.Trainer(callbacks=callbacks, **(quiet | saving | {"max_epochs": 4} | options))

    return make


@pytest.fixture
def fit(trainer: Callable[..., L.Trainer]) -> Callable[..., Foreign]:
    def run(callbacks: list[L.Callback], module: Foreign | None = None, ckpt=None, **options) -> Foreign:
        module = module or Foreign()
        trainer(callbacks, **options).fit(module, loader(), loader(16), ckpt_path=ckpt)
        return module

    return run


@pytest.fixture
def line(trainer: Callable[..., L.Trainer]) -> Callable[..., Tensor]:
    """The real weights after training the line on some points."""

    def run(callback: Binarize, *x: tuple[float, float], optimizer: Callable | None = None, **options) -> Tensor:
        real = Real()
        module = Line(optimizer) if optimizer else Line()
        trainer([real, callback], max_epochs=1, **options).fit(module, points(*x))
        return real.end["layer.weight"]

    return run


# At the signs (1, -1) the point (1, 2) has y = -1 and the gradient (-1, -2); at the real weights y is 0.3.
# With the factor 0.3, the mean of |w|, y is -0.3 and the gradient (-0.3, -0.6).
@pytest.mark.parametrize(
    ("optimizer", "scale", "expected"),
    [
        (lambda params: torch.optim.SGD(params, 0.1), False, [0.6, 0.1]),
        (lambda params: torch.optim.SGD(params, 0.1), True, [0.53, -0.04]),
        (lambda params: torch.optim.AdamW(params, 0.1, weight_decay=0.0), False, [0.6, 0.0]),  # by the sign alone
    ],
)
def test_the_gradient_taken_at_binary_weights_moves_the_real_ones(line, optimizer, scale, expected) -> None:
    real = line(Binarize(scale=scale), (1.0, 2.0), optimizer=optimizer)
    torch.testing.assert_close(real, torch.tensor([expected]))


def test_accumulated_gradients_are_all_taken_at_binary_weights(line) -> None:
    """Gradients (-1, -2) and, where y = 2, (6, 2): their mean is (2.5, 0)."""
    real = line(Binarize(scale=False), (1.0, 2.0), (3.0, 1.0), accumulate_grad_batches=2)
    torch.testing.assert_close(real, torch.tensor([[0.25, -0.1]]))


def test_real_weights_are_clipped_to_one_after_a_step_and_others_are_not(line) -> None:
    def steep(params):
        return torch.optim.SGD(params, 1.0)

    assert line(Binarize(scale=False), (1.0, 2.0), optimizer=steep).tolist() == [[1.0, 1.0]]
    assert line(Binarize(scale=False), (-3.0, 2.0), optimizer=steep).tolist() == [[-1.0, 1.0]]
    module = Line(lambda params: torch.optim.SGD([*params, free], 1.0))
    free = nn.Parameter(torch.tensor([5.0]))
    free.grad = torch.zeros(1)
    L.Trainer(
        callbacks=[Binarize()], accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, points((1.0, 2.0)))  # fmt: skip
    assert free.item() == 5.0


def test_a_filter_is_scaled_by_the_mean_of_its_living_weights() -> None:
    w = torch.tensor([[0.5, -0.1, 0.0, 0.0], [-2.0, 1.0, 3.0, -4.0], [0.0, 0.0, 0.0, 0.0]])
    alive = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    expected = torch.tensor([[0.2, -0.2, 0.2, 0.0], [-3.0, 0.0, 0.0, -3.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(binary(w, alive), expected)
    conv, conv_alive = w.view(3, 1, 2, 2), alive.view(3, 1, 2, 2)
    torch.testing.assert_close(binary(conv, conv_alive), expected.view(3, 1, 2, 2))
    assert binary(w, alive, scale=False).tolist() == [[1, -1, 1, 0], [-1, 0, 0, -1], [0, 0, 0, 0]]


def test_a_filter_of_a_transposed_convolution_makes_an_output_channel() -> None:
    class Upsampling(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 4, 1, groups=2)
            self.up.weight.data = torch.tensor([[1.0, -2.0], [4.0, -6.0]])[..., None]

        def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.seen = self.up.weight.detach().flatten(1).tolist()

    def tested(groups: int) -> list[list[float]]:
        module = Upsampling()
        module.up.groups = groups
        L.Trainer(
            callbacks=[Binarize()], accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).test(module, points((1.0, 2.0)), verbose=False)  # fmt: skip
        return module.seen

    assert tested(groups=1) == [[2.5, -4.0], [2.5, -4.0]]  # over both inputs
    assert tested(groups=2) == [[1.0, -2.0], [4.0, -6.0]]  # each group reads one input


@pytest.mark.parametrize("stochastic", [True, False])
def test_a_transposed_convolution_that_loses_groups_stays_binary(fit, stochastic) -> None:
    class Upsampling(Foreign):
        def __init__(self) -> None:
            super().__init__()
            up = nn.ConvTranspose2d(8, 8, 1, groups=4, bias=False)
            self.body = nn.Sequential(nn.Conv2d(1, 8, 8), up, nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
            up.register_forward_hook(self._note("up"))

    schedule = Rounds(rate=0.25, start=0.5)
    module = Upsampling()
    callbacks = [Pruning(Pruner(Norm(), Filter(), Uniform(), schedule)), Shrink(), Binarize(stochastic)]
    fit(callbacks, module, num_sanity_val_steps=0)
    assert module.body[1].groups == 3
    last = [weight for training, _, weight in module.seen if training][-1]  # (6, 2, 1, 1): two filters of two weights
    filters = [last[2 * group : 2 * group + 2, i].flatten() for group in range(3) for i in range(2)]
    assert all(weights.abs().unique().numel() == 1 for weights in filters)
    sizes = {float(weights[0].abs()) for weights in filters}
    assert len(sizes) == 1 if stochastic else len(sizes) == 6


def test_a_sign_is_drawn_with_the_probability_of_the_hard_sigmoid() -> None:
    """Of weights within H of 0 the mean is the weight: evaluating the real ones is what training expects."""
    size = drawn_size(torch.empty(7, 20000))
    w = size * torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    expected = torch.tensor([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    before = torch.get_rng_state()
    draws = binary(w[:, None].expand(7, 20000), generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(draws.unique(), torch.tensor([-size, size]))
    frequency = (draws > 0).float().mean(1)
    assert (frequency - expected).abs().max() < 0.014  # four standard deviations of the middle one
    assert frequency[[0, 1, 5, 6]].tolist() == [0, 0, 1, 1]


def test_the_size_of_drawn_weights_comes_from_what_a_layer_reads_and_writes() -> None:
    """By hand: sqrt(1.5 / (32 x 9 + 64 x 9)) of a convolution, sqrt(1.5 / (4 + 2)) of a linear layer."""
    assert drawn_size(torch.empty(64, 32, 3, 3)) == pytest.approx(0.0416667, rel=1e-5)
    assert drawn_size(torch.empty(2, 4)) == 0.5


def test_signs_are_drawn_anew_for_each_batch_and_alike_for_each_seed(fit) -> None:
    one, again, other = (fit([Binarize(True, seed=seed)], max_epochs=1) for seed in (0, 0, 1))
    assert same(copied(one), copied(again))
    assert not same(copied(one), copied(other))
    first, second = [w for training, name, w in one.seen if training and name == "body.4.weight"][:2]
    assert 0.1 < (first.sign() != second.sign()).float().mean() < 0.9  # near 0 both signs are as likely


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("granularity", [Weight(), Filter()])
def test_a_pruned_weight_is_zero_in_every_forward_pass_and_a_living_one_is_not(
    fit, stochastic, optimizer, granularity
) -> None:
    callback, module = pruning(granularity=granularity), Foreign(optimizer)
    masks: list[Weights] = []

    class Look(L.Callback):
        def on_train_start(self, *_: object) -> None:
            module.seen.clear()  # before it, surgery is tried

        def on_train_batch_start(self, *_: object) -> None:
            masks.append(dict(callback.pruner.masks))

    fit([callback, Look(), Binarize(stochastic)], module, num_sanity_val_steps=0)
    for name in ("body.0.weight", "body.4.weight"):
        weights = [w for training, seen, w in module.seen if training and seen == name]
        assert len(weights) == len(masks) == 32
        for weight, mask in zip(weights, masks, strict=True):
            if name in mask:
                assert torch.equal(weight != 0, mask[name])
            assert is_binary(weight)
        evaluated = [w for training, seen, w in module.seen if not training and seen == name]
        if name in masks[-1]:
            assert torch.equal(evaluated[-1] != 0, masks[-1][name])
    assert module.body[0].weight.eq(0).sum() == (round(0.8 * 72) if isinstance(granularity, Weight) else 6 * 9)


def test_a_living_weight_of_exactly_zero_is_plus_one(fit) -> None:
    class Zeros(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.body[4].weight.data.zero_()
            self.body[4].weight.data[:, 0] = 0.5

    module = Zeros()
    fit([pruning(rate=0.0), Binarize(scale=False)], module, max_epochs=1, num_sanity_val_steps=0)
    assert all(w.abs().eq(1).all() for _, _, w in module.seen)
    assert module.seen[1][2].eq(1).all()


def test_evaluation_computes_with_the_signs_of_what_is_trained_and_training_goes_on_from_it(fit) -> None:
    module, real = Foreign(), []

    class Look(L.Callback):
        def on_validation_start(self, trainer, module) -> None:
            real.append(copied(module))

        def on_train_epoch_end(self, trainer, module) -> None:  # validation is over
            assert same(real[-1], copied(module))

    fit([Look(), Binarize()], module, num_sanity_val_steps=0)
    assert len(real) == 4
    for name in ("body.0.weight", "body.4.weight"):
        evaluated = [w for training, seen, w in module.seen if not training and seen == name]
        assert len(evaluated) == 8  # two batches an epoch
        for i, weight in enumerate(evaluated):
            assert torch.equal(weight, binary(real[i // 2][name]))


def test_stochastic_training_evaluates_and_leaves_the_real_weights(fit) -> None:
    module, real = Foreign(), Real()
    fit([real, Binarize(stochastic=True)], module)
    assert all(is_binary(w) for training, _, w in module.seen if training)
    assert not any(is_binary(w) for training, _, w in module.seen if not training)
    assert same(copied(module), real.end)


def test_weights_whose_signs_are_drawn_are_clipped_to_their_size(fit) -> None:
    module = fit([Binarize(stochastic=True)])
    for name in ("body.0.weight", "body.4.weight"):
        real, size = copied(module)[name], drawn_size(module.get_parameter(name))
        assert real.abs().max().item() == pytest.approx(size)
        drawn = [w for training, seen, w in module.seen if training and seen == name]
        assert all(w.abs().eq(torch.tensor(size)).all() for w in drawn)


def test_after_the_fit_the_net_has_the_binary_weights_of_its_last_checkpoint(fit, tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, "last")
    module = fit([pruning(), Binarize(), last], enable_checkpointing=True)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name in ("body.0.weight", "body.4.weight"):
        assert not is_binary(saved[name])
        assert torch.equal(module.state_dict()[name], binary(saved[name], saved[name] != 0))


@pytest.mark.parametrize(
    "when",
    [{"save_on_train_epoch_end": True}, {"save_on_train_epoch_end": False}, {"every_n_train_steps": 1}],
)
def test_a_checkpoint_holds_the_real_weights_under_their_ordinary_names(fit, tmp_path: Path, when) -> None:
    real, saver = Real(), ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **when)
    fit([real, Binarize(), saver], enable_checkpointing=True)
    paths = sorted(tmp_path.glob("step=*.ckpt"), key=lambda path: int(path.stem.removeprefix("step=")))
    assert len(paths) == (32 if "every_n_train_steps" in when else 4)
    for path in paths:
        saved = torch.load(path, weights_only=True)
        step = saved["global_step"]
        assert same(saved["state_dict"], real.end if step == 32 else real.batches[step])


@pytest.mark.parametrize("hook", ["on_before_zero_grad", "on_validation_batch_end"])
def test_a_checkpoint_saved_while_binary_weights_show_holds_the_real_ones(fit, tmp_path: Path, hook: str) -> None:
    real, module = Real(), Foreign()
    module.twin = module.body[0]  # a second name

    def save(trainer, *_: object) -> None:
        if trainer.global_step == 8:
            trainer.save_checkpoint(tmp_path / "middle.ckpt")

    saver = L.pytorch.callbacks.LambdaCallback(**{hook: save})
    fit([real, Binarize(), saver], module, num_sanity_val_steps=0)
    saved = torch.load(tmp_path / "middle.ckpt", weights_only=True)["state_dict"]
    for name in ("body.0.weight", "twin.weight", "body.4.weight"):
        assert torch.equal(saved[name], real.batches[8][name])


@pytest.mark.parametrize(
    ("stage", "frozen"), [("validate", False), ("test", False), ("predict", False), ("test", True)]
)
def test_a_checkpoint_is_evaluated_binary_with_its_zeros_in_a_trainer_of_its_own(
    fit, trainer, tmp_path: Path, stage: str, frozen: bool
) -> None:
    with pytest.raises(KeyError, match="killed"):
        fit([pruning(), Binarize(), Kill(tmp_path / "kill.ckpt", 20)])
    saved = torch.load(tmp_path / "kill.ckpt", weights_only=True)["state_dict"]
    module = Foreign().requires_grad_(not frozen)
    callbacks = [pruning(), Binarize()]
    getattr(trainer(callbacks), stage)(module, loader(8), ckpt_path=tmp_path / "kill.ckpt")
    assert [name for _, name, _ in module.seen] == ["body.0.weight", "body.4.weight"]
    for _, name, weight in module.seen:
        assert torch.equal(weight, binary(saved[name], saved[name] != 0))
    assert same(copied(module), saved)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("at", [3, 8, 21])
def test_a_run_killed_and_resumed_ends_in_the_same_bits(fit, tmp_path: Path, stochastic, optimizer, at: int) -> None:
    whole, resumed = Real(), Real()
    first = fit([whole, pruning(), Binarize(stochastic)], Foreign(optimizer))
    with pytest.raises(KeyError, match="killed"):
        fit([pruning(), Binarize(stochastic), Kill(tmp_path / "kill.ckpt", at)], Foreign(optimizer))
    second = fit([resumed, pruning(), Binarize(stochastic)], Foreign(optimizer), ckpt=tmp_path / "kill.ckpt")
    assert same(whole.end, resumed.end)
    assert same(copied(first), copied(second))


@pytest.mark.parametrize("stochastic", [False, True])
def test_a_callback_used_for_two_fits_starts_afresh_and_leaves_no_hook(fit, stochastic: bool) -> None:
    pruner, callback, optimizers = pruning(), Binarize(stochastic), []

    class Keep(L.Callback):
        def on_train_start(self, trainer, module) -> None:
            optimizers.append(trainer.optimizers[0])

    first, second = (fit([pruner, callback, Keep()]) for _ in range(2))
    assert same(copied(first), copied(second))
    assert len(optimizers) == 2
    assert not any(optimizer._optimizer_step_post_hooks for optimizer in optimizers)


def test_a_fit_that_fails_leaves_the_real_weights_and_no_hook(fit) -> None:
    class Fails(Foreign):
        def training_step(self, batch, batch_idx) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if self.global_step == 5:
                assert is_binary(self.body[4].weight)
                raise KeyError("failed")
            return loss

    real, module = Real(), Fails()
    with pytest.raises(KeyError, match="failed"):
        fit([real, Binarize()], module)
    for name in ("body.0.weight", "body.4.weight"):
        assert torch.equal(module.get_parameter(name), real.batches[5][name])
    assert not module.trainer.optimizers[0]._optimizer_step_post_hooks


@pytest.mark.filterwarnings("ignore:.*returned `None`")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_batch_that_is_passed_over_leaves_the_real_weights(fit, accumulate: int) -> None:
    class Passes(Foreign):
        def training_step(self, batch, batch_idx) -> Tensor | None:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx in (1, 2) else loss

        def on_train_batch_end(self, *_: object) -> None:
            assert not is_binary(self.body[4].weight)

    class Steps(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
            assert not is_binary(module.body[4].weight)

    assert fit([Binarize(), Steps()], Passes(), accumulate_grad_batches=accumulate).global_step > 0


def test_an_epoch_that_the_module_cuts_short_leaves_the_real_weights(fit) -> None:
    class Cuts(Foreign):
        def on_train_batch_start(self, batch, batch_idx) -> int | None:
            return -1 if batch_idx == 3 else None

        def on_train_epoch_end(self) -> None:
            assert not is_binary(self.body[4].weight)

    assert fit([Binarize()], Cuts()).global_step == 4 * 3


def test_parameters_keep_their_identity_their_place_and_their_strides(fit) -> None:
    module = Foreign().to(memory_format=torch.channels_last)
    before = {name: (id(p), p.data_ptr(), p.stride()) for name, p in module.named_parameters()}

    class Look(L.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            assert is_binary(module.body[0].weight)
            assert before == {name: (id(p), p.data_ptr(), p.stride()) for name, p in module.named_parameters()}

    fit([Binarize(), Look()], module)
    assert before == {name: (id(p), p.data_ptr(), p.stride()) for name, p in module.named_parameters()}


def test_what_is_skipped_stays_real_and_two_callbacks_share_a_net(fit) -> None:
    module = fit([Binarize(skip=["body.0.*"])])
    assert not is_binary(module.body[0].weight)
    assert is_binary(module.body[4].weight)
    one, two = Binarize(skip=["body.0.*"]), Binarize(scale=False, skip=["body.4.*"])
    assert one.state_key != two.state_key
    both = fit([one, two])
    assert both.body[0].weight.abs().eq(1).all()
    assert is_binary(both.body[4].weight)


def test_the_first_and_the_last_layer_stay_real_on_request(fit) -> None:
    class Deep(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.body.insert(2, nn.Conv2d(8, 8, 1))

    module = fit([Binarize(real_ends=True)], Deep())
    assert [is_binary(module.body[i].weight) for i in (0, 2, 5)] == [False, True, False]
    with pytest.raises(ValueError, match="nothing to binarize between the first and the last layer"):
        fit([Binarize(real_ends=True)])


class Refuses(Foreign):
    """Training must not begin."""

    def training_step(self, batch, batch_idx) -> Tensor:
        raise AssertionError("training began")


@pytest.mark.parametrize("later", [pruning(), Rewind()])
def test_what_takes_weights_at_the_start_of_a_batch_is_refused_after_it(fit, later: L.Callback) -> None:
    name = type(later).__name__
    with pytest.raises(ValueError, match=f"{name} comes after Binarize .*: list {name} before it"):
        fit([Binarize(), later], Refuses())


def test_two_callbacks_for_one_weight_are_refused(fit) -> None:
    with pytest.raises(ValueError, match=r"two Binarize callbacks have body\.4\.weight: skip them in one"):
        fit([Binarize(), Binarize(skip=["body.0.*"])], Refuses())


def test_manual_optimization_is_refused(fit) -> None:
    class Manual(Refuses):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    with pytest.raises(ValueError, match="automatic_optimization=True"):
        fit([Binarize()], Manual())


def test_an_optimizer_that_asks_for_several_losses_a_step_is_refused(line) -> None:
    with pytest.raises(ValueError, match="calls its closure more than once a step"):
        line(Binarize(), (1.0, 2.0), optimizer=torch.optim.LBFGS)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_method_binary_prunes_as_usp_does_and_trains_otherwise(job, tmp_path: Path, rate: float) -> None:
    real, result = (job(f"prune={method}", f"rate={rate}", folder=tmp_path / method) for method in ("usp", "binary"))
    assert result["sparsity"]["removed"] == real["sparsity"]["removed"]
    assert result["accuracy"] == result["history"][-1]["test_acc"]
    assert not any(is_binary(w) for name, w in result["state_dict"].items() if w.dim() == 4)
    assert real["history"][-1]["test_loss"] != result["history"][-1]["test_loss"]
    assert any(key.startswith("Binarize") for key in result["checkpoint"]["callbacks"])


class Evaluated(L.Callback):
    """Whether the weights are binary in each validation. List it after Binarize."""

    def __init__(self) -> None:
        self.binary: list[bool] = []

    def on_validation_epoch_start(self, trainer, module) -> None:
        self.binary.append(is_binary(module.body[0].weight))


@pytest.mark.parametrize(("start", "binary"), [(1.0, [0, 0, 0, 1]), (0.5, [0, 1, 1, 1]), ("3ep", [0, 0, 1, 1])])
def test_weights_are_real_until_start(start: float | str, binary: list[int], fit) -> None:
    """Of 4 epochs of 8 steps; at their end as many steps are done as the next one begins with."""
    seen, plain, begun = Evaluated(), Real(), Real()
    options = {"num_sanity_val_steps": 0}
    fit([plain], **options)
    module = fit([begun, Binarize(start=start), seen], **options)
    assert seen.binary == list(map(bool, binary))
    assert is_binary(module.body[0].weight)
    real = 8 * (4 - sum(binary)) + 8  # steps that began with real weights
    assert len(begun.batches) == len(plain.batches) == 32
    assert all(map(same, begun.batches[:real], plain.batches[:real]))
    assert same(begun.end, plain.end) == (start == 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"start": "9ep"}, "binarize.start: .*9ep"), ({"start": 1.0, "stochastic": True}, "no weight would be binary")],
)
def test_a_start_that_makes_nothing_binary_is_refused(options: dict, message: str, fit) -> None:
    with pytest.raises(ValueError, match=message):
        fit([Binarize(**options)])

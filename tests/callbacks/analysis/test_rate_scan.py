"""Scans and sensitivities in a foreign Lightning project, against networks that were really pruned."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from toy_parts import Even, Pairs, Positive

from prunelab.callbacks import Scan, Sensitivity
from prunelab.channels.blocks import Block
from prunelab.channels.units import Filter
from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform, Zeros
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import NM, Granularity, Weight
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.movement import Movement
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random
from prunelab.criteria.taylor import Taylor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]
RATES = [0.3, 0.6, 0.85]  # at which 2 of 14 filters are left


class Foreign(L.LightningModule):
    """Somebody's module, with batch norm and drop-out."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.Flatten(),
            nn.Linear(96, 3),
        )  # fmt: skip
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self(batch[0])

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


class Careless(Criterion):
    """Draws from the stream that training draws from."""

    def __call__(self, ctx):
        return {name: torch.rand_like(w) for name, w in ctx.params.items()}


def images(seed: int, n: int) -> TensorDataset:
    """Three classes, each around an image of its own."""
    of_class = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    return TensorDataset(of_class[y] + 1.5 * torch.randn(n, 1, 8, 8, generator=g), y)


class Data(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(images(0, 96), 16, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(images(1, 16), 8)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(images(2, 50), 16)

    def scoring_batches(self, count: int, generator: torch.Generator) -> list[list[Tensor]]:
        chosen = torch.randperm(96, generator=generator)[: 16 * count].split(16)
        return [list(images(0, 96)[at]) for at in chosen]


class Augmenting(Data):
    def statistics_batches(self, count: int, generator: torch.Generator) -> list[list[Tensor]]:
        return [[x.flip(-1), y] for x, y in self.scoring_batches(count, generator)]


class Untested(L.LightningDataModule):
    train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader


def trainer(*callbacks: L.Callback, **options) -> L.Trainer:
    quiet = {
        "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    }  # fmt: skip
    return L.Trainer(max_epochs=2, accelerator="cpu", callbacks=list(callbacks), **(quiet | options))


def pruner(
    criterion: Criterion | None = None, granularity: Granularity | None = None, allocation: Allocation | None = None
) -> Pruner:
    return Pruner(criterion or Norm(p=1), granularity or Weight(), allocation or Uniform(), Rounds(rate=0.0))


@pytest.fixture(scope="module")
def trained() -> Foreign:
    module = Foreign()
    trainer().fit(module, datamodule=Data())
    return module


def accuracy(module: nn.Module, loader: DataLoader) -> float:
    module.eval()
    with torch.no_grad():
        right = [(module(x).argmax(1) == y).float() for x, y in loader]
    return torch.cat(right).mean().item()


def pruned(module: Foreign, rate: float, criterion: Criterion, granularity: Granularity, allocation: Allocation):
    """A copy that a Pruner of its own has pruned once."""
    module = copy.deepcopy(module)
    reference = Pruner(criterion, granularity, allocation, Rounds(rate=rate, start=0.0))
    reference.attach(module, module.example_input_array)
    reference.update(Progress(0, 10, 5))
    return module


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    after = module.state_dict()
    return list(after) == list(before) and all(torch.equal(t, before[name]) for name, t in after.items())


def test_what_callbacks_make_of_an_average_at_the_end_of_training_stays() -> None:
    class Doubled(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            for weight in pl_module.parameters():
                weight.data.mul_(2)

    average, module = EMAWeightAveraging(decay=0.5), Foreign()
    scan = Scan(pruner(), rates=[0.5], batches=0, zoom=1)
    trainer(average, Doubled(), scan).fit(module, datamodule=Data())
    kept = dict(average._average_model.module.named_parameters())
    assert all(torch.equal(weight, 2 * kept[name]) for name, weight in module.named_parameters())


@pytest.mark.parametrize("criterion", [Norm(p=1), Random()], ids=["norm", "random"])
@pytest.mark.parametrize("granularity", [Weight(), Filter()], ids=["weight", "filter"])
@pytest.mark.parametrize("allocation", [Uniform(), Global(), ERK()], ids=["uniform", "global", "erk"])
def test_each_accuracy_is_that_of_a_net_pruned_to_this_rate(trained, criterion, granularity, allocation) -> None:
    scan = Scan(pruner(criterion, granularity, allocation), rates=RATES, batches=0, zoom=1)
    trainer(scan).test(trained, datamodule=Data(), verbose=False)
    loader = Data().test_dataloader()
    expected = [accuracy(pruned(trained, rate, criterion, granularity, allocation), loader) for rate in [0.0, *RATES]]
    assert scan.result["rates"] == [0.0, *RATES]
    assert scan.result["accuracy"] == pytest.approx(expected)
    assert len(set(expected)) > 2
    assert scan.result["n"] == 50


@pytest.mark.parametrize("data", [Data(), Augmenting()], ids=["as scored", "augmented"])
def test_the_other_curve_is_that_of_running_statistics_of_the_pruned_net(trained, data: Data) -> None:
    scan = Scan(pruner(), rates=RATES, batches=6, zoom=1)  # all training images, so their order matters little
    trainer(scan).test(trained, datamodule=data, verbose=False)
    draw = getattr(data, "statistics_batches", data.scoring_batches)
    expected = []
    for rate in [0.0, *RATES]:
        module = pruned(trained, rate, Norm(p=1), Weight(), Uniform())
        for norm in (module.body[1], module.body[5]):
            norm.reset_running_stats()
            norm.momentum = None
        module.train()
        module.body[3].eval()
        for x, _ in draw(6, derived_generator("scan", 0)):
            module(x)
        expected.append(accuracy(module, Data().test_dataloader()))
    assert scan.result["reestimated"] == pytest.approx(expected)
    assert scan.result["reestimated"] != scan.result["accuracy"]
    assert scan.result["statistics_from"] == 96


@pytest.mark.parametrize(
    "analysis", [lambda p: Scan(p, [0.5, 0.9], batches=2), lambda p: Sensitivity(p, [0.9], batches=2)]
)
@pytest.mark.parametrize("criterion", [Taylor(batches=2), Careless()], ids=["taylor", "careless"])
@pytest.mark.parametrize("how", ["test", "validate"])
def test_an_analysis_leaves_weights_buffers_modes_and_random_streams_to_the_bit(
    trained, analysis: Callable, criterion: Criterion, how: str
) -> None:
    module = copy.deepcopy(trained)
    module.train()
    module.body[2].eval()
    modes = [m.training for m in module.modules()]
    before, parameters = state(module), list(module.parameters())
    torch.manual_seed(5)
    getattr(trainer(), how)(module, datamodule=Data(), verbose=False)
    without = torch.rand(3)
    torch.manual_seed(5)
    callback = analysis(pruner(criterion))
    getattr(trainer(callback), how)(module, datamodule=Data(), verbose=False)
    assert torch.equal(torch.rand(3), without)
    assert callback.result is not None
    assert unchanged(module, before)
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert [m.training for m in module.modules()] == modes


def test_a_training_ends_in_the_bits_it_would_have_without_an_analysis_at_its_end() -> None:
    torch.manual_seed(1)
    plain, looked_at = Foreign(), Foreign()
    for module, callbacks in (
        (plain, []),
        (looked_at, [Scan(pruner(), [0.5], batches=2), Sensitivity(pruner(), [0.5])]),
    ):
        torch.manual_seed(2)
        trainer(*callbacks).fit(module, datamodule=Data())
    assert unchanged(looked_at, state(plain))
    assert all(callback.result["n"] == 50 for callback in callbacks)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_an_analysis_at_the_end_of_a_training_is_one_by_testing_in_any_precision(precision: str) -> None:
    class Blank(Data):
        """Augments as Lightning's documents advise, and badly."""

        def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
            return [0 * batch[0], batch[1]] if self.trainer.training else batch

    module, of_fit, of_test = Foreign(), Scan(pruner(), [0.5], batches=2), Scan(pruner(), [0.5], batches=2)
    trainer(of_fit, precision=precision).fit(module, datamodule=Blank())
    trainer(of_test, precision=precision).test(module, datamodule=Blank(), verbose=False)
    assert of_fit.result["accuracy"] == of_test.result["accuracy"]
    assert of_fit.result["reestimated"] == of_test.result["reestimated"]


def test_a_test_set_that_is_made_for_testing_alone_is_found_and_changes_no_training() -> None:
    class Late(L.LightningDataModule):
        train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader

        def setup(self, stage: str) -> None:
            if stage == "test":
                self.images = images(2, 50)

        def test_dataloader(self) -> DataLoader:
            return DataLoader(random_split(self.images, [40, 10])[0], 16)

    plain, looked_at, scan = Foreign(), Foreign(), Scan(pruner(), [0.5], batches=2)
    for module, callbacks in ((plain, []), (looked_at, [scan])):
        torch.manual_seed(2)
        trainer(*callbacks).fit(module, datamodule=Late())
    assert scan.result["n"] == 40
    assert unchanged(looked_at, state(plain))


def test_a_data_set_that_any_setup_splits_anew_is_split_as_without_an_analysis() -> None:
    class Split(L.LightningDataModule):
        val_dataloader = Data.val_dataloader

        def setup(self, stage: str) -> None:
            self.train, self.test = random_split(images(0, 96), [72, 24])

        def train_dataloader(self) -> DataLoader:
            return DataLoader(self.train, 16)

        def test_dataloader(self) -> DataLoader:
            return DataLoader(self.test, 16)

    modules, splits, scan = [Foreign(), Foreign()], [Split(), Split()], Scan(pruner(), [0.5], batches=0)
    for module, data, callbacks in zip(modules, splits, ([], [scan]), strict=True):
        torch.manual_seed(2)
        trainer(*callbacks).fit(module, datamodule=data)
    assert splits[0].train.indices == splits[1].train.indices
    assert unchanged(modules[1], state(modules[0]))
    assert scan.result["accuracy"][0] == pytest.approx(accuracy(modules[1], splits[0].test_dataloader()))


def test_after_a_training_the_same_trainer_tests_and_predicts_without_another_analysis(trained) -> None:
    class Counting(Scan):
        def find(self, trial, units):
            results.append(1)
            return super().find(trial, units)

    results: list[int] = []
    scan, module = Counting(pruner(), [0.5], batches=2), copy.deepcopy(trained)
    one = trainer(scan)
    one.fit(module, datamodule=Data())
    result = scan.result
    one.validate(module, dataloaders=Data().val_dataloader(), verbose=False)
    one.test(module, dataloaders=Data().test_dataloader(), verbose=False)
    one.predict(module, dataloaders=DataLoader(torch.zeros(2, 1, 8, 8)))
    assert scan.result is result
    assert len(results) == 1
    one.fit_loop.max_epochs = 3
    one.fit(module, datamodule=Data())
    assert len(results) == 2
    trainer(scan).test(Foreign(), datamodule=Data(), verbose=False)
    assert len(results) == 3  # by another Trainer, which has trained nothing


def test_a_prediction_triggers_no_analysis(trained) -> None:
    scan = Scan(pruner(), batches=2)
    trainer(scan).predict(trained, dataloaders=DataLoader(torch.zeros(2, 1, 8, 8)))
    assert scan.result is None


def test_a_rest_of_one_image_is_left_out_of_running_statistics() -> None:
    class Rest(L.LightningDataModule):
        val_dataloader, test_dataloader = Data.val_dataloader, Data.test_dataloader

        def train_dataloader(self) -> DataLoader:
            return DataLoader(images(0, 49), 16)

    class Flat(Foreign):
        """A batch norm that no single image may come to in training."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))

    scan = Scan(pruner(), [0.5], batches=4)
    trainer(scan, limit_train_batches=3).fit(Flat(), datamodule=Rest())
    assert scan.result["statistics_from"] == 48


def test_images_that_come_one_by_one_are_what_statistics_are_made_of() -> None:
    class Single(Data):
        def scoring_batches(self, count: int, generator: torch.Generator) -> list[list[Tensor]]:
            return [[x[None], y[None]] for x, y in list(images(0, 96))[:count]]

    scan = Scan(pruner(), [0.5], batches=4)
    trainer(scan).fit(Foreign(), datamodule=Single())
    assert scan.result["statistics_from"] == 4


def test_several_training_loaders_do_with_batches_of_the_data_module() -> None:
    class Two(Data):
        def train_dataloader(self) -> list[DataLoader]:
            return [Data.train_dataloader(self), Data.train_dataloader(self)]

    class Both(Foreign):
        def training_step(self, batch: list[list[Tensor]], batch_idx: int) -> Tensor:
            return super().training_step(batch[0], batch_idx)

    scan = Scan(pruner(), [0.5], batches=3)
    trainer(scan).fit(Both(), datamodule=Two())
    assert scan.result["statistics_from"] == 48


def test_what_trains_a_single_batch_to_be_tried_out_looks_at_as_many_as_ever() -> None:
    scan = Scan(pruner(), [0.5], batches=3)
    trainer(scan, fast_dev_run=True).fit(Foreign(), datamodule=Data())
    assert scan.result["statistics_from"] == 48


def test_nm_groups_have_no_rates_in_between_and_no_zoom(trained) -> None:
    scan = Scan(pruner(granularity=NM(m=4)), [0.25, 0.5, 0.75], batches=0, tolerance=0.0)
    trainer(scan).test(trained, datamodule=Data(), verbose=False)
    assert scan.result["rates"] == [0, 0.25, 0.5, 0.75]
    assert scan.result["windows"] == []


def test_scans_take_allocations_and_granularities_by_what_they_say_of_themselves(trained) -> None:
    results = {}
    for allocation in (Uniform(), Even()):
        scan, rows = Scan(pruner(allocation=allocation), RATES, 0), Sensitivity(pruner(allocation=allocation), RATES)
        trainer(scan, rows).test(trained, datamodule=Data(), verbose=False)
        results[allocation] = {key: scan.result[key] for key in ("rates", "accuracy", "knee")}, rows.result["layers"]
    assert results[Uniform()] == results[Even()]
    scan = Scan(pruner(Random(), Pairs(), Even()), [0.5], batches=0, tolerance=0)
    trainer(scan).test(trained, datamodule=Data(), verbose=False)
    assert scan.result["rates"] == [0.0, 0.5]
    assert scan.result["knee"]["accuracy"] == 0.0  # where other units would have a zoom
    assert scan.result["windows"] == []


def test_scores_are_computed_once_for_all_rates(trained) -> None:
    calls = []

    class Counting(Norm):
        def __call__(self, ctx):
            calls.append(1)
            return super().__call__(ctx)

    trainer(Scan(pruner(Counting(p=1)), rates=50, batches=0)).test(trained, datamodule=Data(), verbose=False)
    assert len(calls) == 1


def test_the_net_is_put_back_before_others_are_told_and_where_a_mask_ends_in_an_error(trained) -> None:
    class Told(L.Callback):
        def on_mask_evaluated(self, trainer, module) -> None:
            assert unchanged(module, before)
            message.append(1)

    def fails(module: nn.Module, args: object) -> None:
        if not unchanged(trained, before):
            raise KeyError("stop")

    message: list[int] = []
    before = state(trained)
    trainer(Scan(pruner(), [0.9], batches=2, zoom=1), Told()).test(trained, datamodule=Data(), verbose=False)
    assert len(message) == 2
    hook = trained.register_forward_pre_hook(fails)
    with pytest.raises(KeyError, match="stop"):
        trainer(Scan(pruner(), [0.9], batches=2)).test(trained, datamodule=Data(), verbose=False)
    hook.remove()
    assert unchanged(trained, before)


def test_the_zoom_refines_both_knees() -> None:
    def worth(masks: dict[str, Tensor]) -> tuple[float, float]:
        gone = int((~masks["w"]).sum())
        return 0.9 - 0.2 * (gone > 34), 0.9 - 0.2 * (gone > 76)

    scan = Scan(pruner(), rates=10, tolerance=0.05, zoom=2, reach=1)
    results = scan.find(worth, {"w": torch.rand(100)})
    assert results["windows"] == [(0.2, 0.4), (0.6, 0.8)]
    assert results["rates"] == [0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9]
    assert results["knee"] == {"accuracy": 0.3, "reestimated": 0.75}
    assert results["accuracy"] == [0.9] * 5 + [0.7] * 9
    assert results["reestimated"] == [0.9] * 12 + [0.7] * 2


def test_without_batch_norm_there_is_one_curve_and_it_is_said(caplog) -> None:
    scan, rows = Scan(pruner(), [0.5]), Sensitivity(pruner(), [0.5], batches=2)
    with caplog.at_level("INFO"):
        trainer(scan, rows).test(Foreign(norm=False), datamodule=Data(), verbose=False)
    assert scan.result["reestimated"] is None
    assert rows.result["reestimated"] is None
    assert scan.result["statistics_from"] == 0
    assert "scan: the network has no batch norm, so there is one curve" in caplog.text


@pytest.mark.parametrize("granularity", [Weight(), Filter()], ids=["weight", "filter"])
def test_sensitivity_prunes_one_layer_and_leaves_the_others_whole(trained, granularity) -> None:
    rows = Sensitivity(pruner(granularity=granularity), rates=[0.5, 0.9])
    trainer(rows).test(trained, datamodule=Data(), verbose=False)
    assert rows.result["rates"] == [0.0, 0.5, 0.9]
    loader = Data().test_dataloader()
    for name, accuracies in rows.result["layers"].items():
        reference = Pruner(Norm(p=1), granularity, Uniform(), Rounds(rate=0.0))
        module = copy.deepcopy(trained)
        reference.attach(module, module.example_input_array)
        scores = reference.unit_scores()
        expected = []
        for rate in (0.0, 0.5, 0.9):
            module = copy.deepcopy(trained)
            masks = reference.granularity.expand(Uniform()({name: scores[name]}, rate))
            with torch.no_grad():
                for weight, mask in masks.items():
                    module.get_parameter(weight).mul_(mask)
            expected.append(accuracy(module, loader))
        assert accuracies == pytest.approx(expected), name
    weights = ["body.0.weight", "body.4.weight", "body.8.weight"]
    assert list(rows.result["layers"]) == (weights if isinstance(granularity, Weight) else weights[:2])


def test_sensitivity_has_both_accuracies_of_each_mask() -> None:
    def worth(masks: dict[str, Tensor]) -> tuple[float, float]:
        gone = sum(int((~mask).sum()) for mask in masks.values())
        return 16 - gone, 32 - gone

    rows = Sensitivity(pruner(), [0.5])
    results = rows.find(worth, {"a": torch.rand(4), "b": torch.rand(10)})
    assert results["layers"] == {"a": [16, 14], "b": [16, 11]}
    assert results["reestimated"] == {"a": [32, 30], "b": [32, 27]}


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        (lambda: Scan(pruner(), rates=[0.5, 1.0]), r"rates: 1.0 is no fraction in \[0, 1\)"),
        (lambda: Scan(pruner(), rates=1), "rates=1: expected at least 2"),
        (lambda: Sensitivity(pruner(), rates=[-1]), "rates: -1 is no fraction"),
        (lambda: Scan(pruner(), batches=-1), "batches=-1: expected a number"),
        (lambda: Scan(pruner(), tolerance=1), r"tolerance=1: expected a fraction in \[0, 1\)"),
        (lambda: Scan(pruner(), zoom=0), "zoom=0, reach=2: expected whole numbers of at least 1"),
        (lambda: Scan(pruner(), zoom=1.5), "zoom=1.5, reach=2: expected whole numbers"),
        (lambda: Scan(pruner(), reach=2.0), "zoom=5, reach=2.0: expected whole numbers"),
        (lambda: Scan(pruner(), rates=0.5), r"rates=0.5: expected how many, or a list of fractions, as \[0.5\]"),
        (lambda: Scan(pruner(allocation=Zeros())), "Zeros has its own: use prune/allocation=uniform, global or erk"),
        (lambda: Scan(pruner(allocation=Explicit({}, 0.0))), "Explicit has its own: use prune/allocation=uniform"),
        (lambda: Sensitivity(pruner(granularity=Block())), "blocks go whole: use another granularity"),
        (lambda: Scan(pruner(allocation=Positive())), "Positive has its own"),
        (lambda: Sensitivity(pruner(allocation=Positive())), "Positive shares out"),
        (lambda: Scan(pruner(Taylor(batches=9)), batches=0), "Scan asks for 9 batches"),
        (lambda: Scan(pruner(Movement())), "Movement uses what a method has recorded in training"),
        (lambda: Scan(pruner(granularity=NM(m=4)), [0.3]), "rate=0.3: groups of m=4 weights allow 0.25, 0.5, 0.75"),
        (lambda: Scan(Pruner(Norm(), Weight(), Uniform(), Rounds(0.0), passes=3)), "leave budget, regrow and passes"),
        (lambda: Scan(Pruner(Norm(), Weight(), Uniform(), Rounds(0.0), skip=["*"])), "nothing to prune, every"),
        (lambda: Scan(pruner(granularity=Filter(), allocation=Global()), [0.95]), "would keep 1 units in 2 layers"),
        (lambda: Sensitivity(pruner(allocation=Global())), "Global shares out: use prune/allocation=uniform"),
    ],
)
def test_what_cannot_work_is_told_before_training(analysis: Callable, message: str) -> None:
    module = Foreign()
    before = state(module)
    with pytest.raises(ValueError, match=message):
        trainer(analysis()).fit(module, datamodule=Data())
    assert unchanged(module, before)


def test_missing_test_data_and_several_devices_are_told_before_training() -> None:
    with pytest.raises(ValueError, match="there are no test data: give the data module, or the module, a test_data"):
        trainer(Scan(pruner())).fit(Foreign(), datamodule=Untested())
    with pytest.raises(ValueError, match="Scan works on one device: set devices=1"):
        Scan(pruner()).setup(SimpleNamespace(world_size=2, datamodule=Data()), Foreign(), "fit")


def test_too_few_training_batches_are_told_before_the_first_step() -> None:
    module = Foreign()
    before = state(module)
    with pytest.raises(ValueError, match="Scan asks for 7 batches, the training data have 6: lower its batches"):
        trainer(Scan(pruner(), batches=7)).fit(module, datamodule=Data())
    assert unchanged(module, before)


@pytest.mark.parametrize("loader", [lambda: iter(DataLoader(images(2, 50))), lambda: DataLoader([])])
def test_a_loader_that_cannot_be_gone_through_again_is_told_before_training(loader: Callable) -> None:
    class Once(Data):
        def test_dataloader(self) -> DataLoader:
            return loader()

    module = Foreign()
    before = state(module)
    with pytest.raises(ValueError, match="test_dataloader is empty or good for one pass"):
        trainer(Scan(pruner())).fit(module, datamodule=Once())
    assert unchanged(module, before)


def test_outside_of_fit_training_batches_come_from_the_data_module() -> None:
    class Plain(L.LightningDataModule):
        test_dataloader = Data.test_dataloader

    with pytest.raises(ValueError, match=r"outside of fit: give the data module scoring_batches"):
        trainer(Scan(pruner())).test(Foreign(), datamodule=Plain())
    scan = Scan(pruner(), [0.5], batches=0)
    trainer(scan).test(Foreign(), datamodule=Plain(), verbose=False)
    assert scan.result["reestimated"] is None

"""Inputs of forward are found in batches of any form; where they are not, they are random, and the log says so."""

import logging
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from prunelab.callbacks import Pruning, Shrink
from prunelab.callbacks.inputs import inputs_within
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]
X, Y, T = torch.rand(8, 3, 6, 6), torch.rand(8, 7), torch.arange(8)
LARGE = torch.rand(8, 3, 9, 9)
LIKE_X, LIKE_Y, LIKE_T = torch.zeros(2, 3, 6, 6), torch.zeros(1, 7), torch.zeros(1, dtype=torch.long)
FOUND: dict[str, tuple[Any, Any, Any]] = {
    "x, t": ((X, T), LIKE_X, X),
    "t, x": ((T, X), LIKE_X, X),
    "x alone": (X, LIKE_X, X),
    "(x, y), t": (((X, Y), T), (LIKE_X, LIKE_Y), (X, Y)),
    "in another order": ((Y, T, X), (LIKE_X, LIKE_Y), (X, Y)),
    "a dict": ({"label": T, "image": X, "extra": Y}, (LIKE_X, LIKE_Y), (X, Y)),
    "two views": ({"views": [X, LIKE_X], "label": T}, LIKE_X, X),
    "two of one form": ((X, LIKE_X, T), (LIKE_X, LIKE_X), (X, LIKE_X)),
    "whole numbers": ((X, T), LIKE_T, T),
    "images of another size": ((Y, LARGE), LIKE_X, LARGE),
    "none": ((Y, T), LIKE_X, None),
    "images as bytes": ((X.byte(), T), LIKE_X, None),
    "one of two": ((X, T), (LIKE_X, LIKE_X), None),
    "no tensor": ({"path": "a.png"}, LIKE_X, None),
}  # fmt: skip


@pytest.mark.parametrize(("batch", "example", "expected"), FOUND.values(), ids=FOUND)
def test_the_inputs_are_the_tensors_like_those_of_the_example(batch: Any, example: Any, expected: Any) -> None:
    found = inputs_within(batch, example)
    assert isinstance(found, tuple) == isinstance(expected, tuple)
    assert all(a is b for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True))


class Data(Dataset[Any]):
    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> Any:
        x, t = X[i % 8], i % 3
        return {"dict": {"label": t, "image": x}, "bytes": ((x * 255).byte(), t)}[self.form]


class Lit(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.bn, self.b, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), nn.Linear(4, 3)
        self.example_input_array = LIKE_X

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.bn(self.a(x)).relu()).mean((2, 3)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, t = (batch["image"], batch["label"]) if isinstance(batch, dict) else (batch[0] / 255, batch[1])
        return nn.functional.cross_entropy(self(x), t)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("form", ["dict", "bytes", "two loaders"])
def test_a_training_on_batches_of_another_form_ends_with_a_certificate(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    module, shrink = Lit(), Shrink()
    loader: Any = DataLoader(Data("dict" if form == "two loaders" else form), 4)
    if form == "two loaders":
        loader = {"first": loader}
        module.training_step = lambda batch, batch_idx: Lit.training_step(module, batch["first"], batch_idx)
    pruner = Pruner(Norm(p=1), Filter(), Uniform(), Cubic(rate=0.5, start=0, end=0.5))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with caplog.at_level(logging.WARNING):
        L.Trainer(max_epochs=2, enable_checkpointing=False, callbacks=[Pruning(pruner), shrink], **options).fit(
            module, loader
        )
    assert module.a.out_channels == 4
    assert shrink.certificate is not None
    assert shrink.certificate.inputs == (4 if form == "dict" else 2)
    assert ("the inputs are random" in caplog.text) == (form != "dict")

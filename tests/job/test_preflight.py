"""A network must take the images and give a logit per class; an optimizer must step it, and its state be cut."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelab.job.preflight import check_forward, check_optimizer
from prunelab.lit.classifier import Classifier
from prunelab.lit.schedules import cosine

IMAGES = torch.zeros(2, 3, 40, 40)


class Two(nn.Flatten):
    """As with an auxiliary head in training."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)),
            "^Sequential cannot take images of 40x40 pixels: Runtime",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(4800, 7)), r"^Sequential gives \(2, 7\) for 2 images of 10 classes: "),
        (nn.Conv2d(3, 10, 1), r"^Conv2d gives \(2, 10, 40, 40\) for 2 images"),
        (Two(), "^Two gives tuple for 2 images"),
    ],
)
def test_a_network_that_does_not_fit_the_images_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_forward(net, IMAGES, 10)
    assert "\n" not in str(error.value)


class OfSeveral(nn.Linear):
    """Measured is one image, at the end of a training."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise RuntimeError("a batch of one\nhas no variance")
        return super().forward(x.mean((2, 3)))


def test_a_network_whose_cost_cannot_be_counted_is_refused_before_it_is_trained() -> None:
    with pytest.raises(ValueError, match=r"^the MACs of OfSeveral cannot be counted: RuntimeError: a batch of one"):
        check_forward(OfSeveral(3, 10), IMAGES, 10)


def test_a_network_that_fits_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(4800, 10))
    before, stream = {name: t.clone() for name, t in net.state_dict().items()}, torch.get_rng_state()
    check_forward(net, IMAGES, 10)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)


def module(optimizer: Any) -> Classifier:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1).requires_grad_(False))
    return Classifier(net.to(memory_format=torch.channels_last), partial(optimizer, lr=0.1), cosine)


class Closure(torch.optim.SGD):
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return closure()


class OneStep(torch.optim.SGD):
    """Has state where a gradient is not 0, as LBFGS."""

    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None and p.grad.abs().sum():
                self.state[p]["seen"] = torch.ones(1)


class OnGpu(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("expected all tensors on a GPU")


@pytest.mark.parametrize(
    ("optimizer", "shrinks", "message"),
    [
        (torch.optim.LBFGS, False, "^optim: LBFGS cannot step in this job, RuntimeError: view size is not compatible"),
        (torch.optim.SparseAdam, False, "^optim: SparseAdam cannot step in this job, RuntimeError: .* dense gradients"),
        (OnGpu, False, "^optim: OnGpu cannot step in this job, .*: use SGD or AdamW$"),
        (
            torch.optim.Adafactor,
            True,
            r"^Adafactor has state row_var \(4, 3, 3, 1\) for 0.weight .*: use SGD or AdamW$",
        ),
        (torch.optim.Adafactor, False, ""),
        (torch.optim.Rprop, True, ""),
        (Closure, True, ""),
        (OneStep, True, r"^OneStep has state seen \(1,\) for 0.weight"),
        (partial(torch.optim.AdamW, capturable=True), True, ""),
        (partial(torch.optim.SGD, momentum=0.9, nesterov=True), True, ""),
    ],
)
def test_an_optimizer_that_cannot_step_or_be_cut_is_refused_before_training(
    optimizer: Any, shrinks: bool, message: str
) -> None:
    classifier = module(optimizer)
    before = {name: t.clone() for name, t in classifier.net.state_dict().items()}
    if message:
        with pytest.raises(ValueError, match=message) as error:
            check_optimizer(classifier, 4, shrinks, "cpu")
        assert "\n" not in str(error.value)
    else:
        check_optimizer(classifier, 4, shrinks, "cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.net.state_dict().items())
    assert all(p.grad is None for p in classifier.net.parameters())


def test_an_optimizer_is_not_asked_for_more_than_its_job_does(monkeypatch: pytest.MonkeyPatch) -> None:
    contiguous = module(torch.optim.LBFGS).to(memory_format=torch.contiguous_format)
    check_optimizer(contiguous, 4, shrinks=False, accelerator="cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_optimizer(module(OnGpu), 4, shrinks=False, accelerator="gpu")

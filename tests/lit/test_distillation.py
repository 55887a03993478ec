"""Distillation: the loss by hand, and a teacher that is never trained, saved or changed."""

import math

import pytest
import torch
from torch import Tensor, nn

from prunelab.lit.classifier import Classifier
from prunelab.lit.distillation import Distillation
from prunelab.lit.schedules import cosine


class Fixed(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def test_the_loss_by_hand() -> None:
    # Divided by T=2 and exponentiated, the teacher's outputs are 3:1 and 1:1, the student's 1:1 and 1:3.
    teacher = Fixed(torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]]))
    logits = torch.tensor([[0.0, 0.0], [0.0, 2 * math.log(3)]], requires_grad=True)
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    second = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    loss = Distillation(teacher, temperature=2.0, weight=0.25)(torch.zeros(2), logits, torch.tensor(8.0))
    assert loss.item() == pytest.approx(0.75 * 8 + 0.25 * 4 * (first + second) / 2)
    loss.backward()
    # T^2 w / T (softmax of the student - softmax of the teacher) / n, in section 2.1 without w and n
    by_hand = torch.tensor([[0.5 - 0.75, 0.5 - 0.25], [0.25 - 0.5, 0.75 - 0.5]]) * 4 * 0.25 / 2 / 2
    torch.testing.assert_close(logits.grad, by_hand)
    assert teacher.logits.grad is None


def test_of_two_equal_networks_the_labels_alone_teach() -> None:
    logits = torch.randn(3, 5)
    loss = Distillation(Fixed(logits.clone()), temperature=3.0, weight=0.9)(torch.zeros(3), logits, torch.tensor(1.0))
    assert loss.item() == pytest.approx(0.1, abs=1e-6)


def test_the_teacher_is_no_part_of_the_module_and_does_not_change() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    teacher = net().train()
    module = Classifier(net(), torch.optim.SGD, cosine, 4, distillation=Distillation(teacher)).train()
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    module.training_step((torch.randn(8, 3, 2, 2), torch.arange(8) % 4), 0).backward()
    assert not teacher.training
    assert all(torch.equal(t, before[name]) for name, t in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any("teacher" in name for name in module.state_dict())
    assert {id(p) for p in module.parameters()} == {id(p) for p in module.net.parameters()}


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"temperature": 0}, "distill.temperature=0: expected a number above 0"),
        ({"temperature": float("inf")}, "distill.temperature=inf: expected a number above 0"),
        ({"temperature": "hot"}, "distill.temperature=hot: expected a number"),
        ({"weight": 1.5}, r"distill.weight=1.5: expected a fraction in \[0, 1\]"),
        ({"weight": math.nan}, "distill.weight=nan"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, float], refused: str) -> None:
    with pytest.raises(ValueError, match=refused):
        Distillation(nn.Identity(), **options)

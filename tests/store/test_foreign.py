"""Checkpoints as people have them, read into a network of two layers and a batch norm."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.store.foreign import read

State = dict[str, Tensor]


class Net(nn.Module):
    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        if masked:
            prune.random_unstructured(self.conv, "weight", 0.5)


OWN, OTHER, MASKED = Net().state_dict(), Net().state_dict(), Net(masked=True).state_dict()
COUNT = {"bn.num_batches_tracked": torch.tensor(0)}


def named(change: Callable[[str], str], state: State = OWN) -> State:
    return {change(name): tensor for name, tensor in state.items()}


def behind(prefix: str, state: State = OWN) -> State:
    return named(lambda name: prefix + name, state)


# What torch.load returns, the choice, what is read, and a word of the log.
FORMS: dict[str, tuple[Any, str, State, str]] = {
    "plain": (OWN, "", OWN, ""),
    "parameters of a module": ({**OWN, "fc.weight": nn.Parameter(OWN["fc.weight"])}, "", OWN, ""),
    "state_dict": ({"epoch": 3, "state_dict": OWN, "optimizer": {}}, "", OWN, "begin with state_dict."),
    "net": ({"net": behind("module."), "acc": 95.1}, "", OWN, "begin with net.module."),
    "model": ({"model": OWN}, "", OWN, "begin with model."),
    "model_state_dict": (
        {"model_state_dict": OWN, "optimizer_state_dict": {"state": {}}},
        "",
        OWN,
        "model_state_dict.",
    ),
    "other floats": ({n: t.half() for n, t in OWN.items()}, "", {n: t.half() for n, t in OWN.items()}, ""),
    "masks of the same names": ({"masks": {n: t != 0 for n, t in OWN.items()}, "net": OWN}, "", OWN, "masks.conv"),
    "DataParallel": (behind("module."), "", OWN, "begin with module."),
    "torch.compile": (behind("_orig_mod."), "", OWN, ""),
    "torch.compile of a layer": (named(lambda name: name.replace("fc.", "fc._orig_mod.")), "", OWN, ""),
    "nested": ({"state_dict": behind("net._orig_mod.module.")}, "", OWN, "begin with state_dict.net.module."),
    "Lightning": (
        {"pytorch-lightning_version": "2", "state_dict": behind("net."), "current_model_state": behind("net.", OTHER)},
        "",
        OWN,
        "begin with state_dict.net.",
    ),
    "Lightning with a loss": (
        {"state_dict": behind("net.") | {"loss.weight": torch.ones(2)}},
        "",
        OWN,
        "loss.weight left",
    ),
    "EMA": ({"state_dict": OTHER, "state_dict_ema": OWN}, "state_dict_ema", OWN, "state_dict.conv.weight"),
    "teacher": (behind("net.", OTHER) | behind("teacher."), "teacher", OWN, "and 6 more left out"),
    "two, of which one fits": (
        {"generator": {"conv.weight": torch.ones(7)}, "judge": OWN},
        "",
        OWN,
        "begin with judge.",
    ),
    "masks": (
        MASKED,
        "",
        {name: MASKED[name] for name in OWN if name in MASKED}
        | {"conv.weight": MASKED["conv.weight_orig"] * MASKED["conv.weight_mask"]},
        "masks applied: 1",
    ),
    "no counts": ({name: t for name, t in OWN.items() if name not in COUNT}, "", OWN | COUNT, ""),
    "another head": (named(lambda name: name.replace("fc.", "head.linear.")), "", OWN, "head.linear as fc"),
    "a head of the root": (named(lambda name: name.replace("fc.", "")), "", OWN, " as fc"),
    "wrapped, another head": (
        {"net": named(lambda n: "module." + n.replace("fc.", "linear."))},
        "",
        OWN,
        "linear as fc",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_network_is_found(form: str) -> None:
    saved, which, expected, said = FORMS[form]
    tensors, notes = read(saved, OWN, which)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert said in "; ".join(notes)
    assert bool(said) == bool(notes)


def without(*names: str) -> State:
    return {name: tensor for name, tensor in OWN.items() if name not in names}


HEADLESS = without("fc.weight", "fc.bias")
ONE = torch.ones(1)
REFUSED: dict[str, tuple[Any, str, str]] = {
    "no dictionary": ([*OWN.values()], "", "holds no state_dict"),
    "no tensor": ({"conv.weight": 3.0}, "", "holds no state_dict"),
    "another network": (
        {"a.weight": ONE, "b.weight": ONE},
        "",
        "^it lacks conv.weight, conv.bias, bn.weight and 5 more; it has a.weight, b.weight, which nothing asks for$",
    ),
    "no statistics": (without("bn.running_mean", "bn.running_var"), "", "^it lacks bn.running_mean, bn.running_var$"),
    "a larger network": (OWN | {"conv2.weight": ONE}, "", "^it has conv2.weight, which nothing asks for$"),
    "a larger one, wrapped": (
        {"net": OWN | {"conv2.weight": ONE}},
        "",
        "^it has conv2.weight, which nothing asks for$",
    ),
    "a head of two layers": (
        HEADLESS | {"a.weight": OWN["fc.weight"], "b.bias": OWN["fc.bias"]},
        "",
        "^it lacks fc.weight, fc.bias; it has a.weight, b.bias, which",
    ),
    "a head of another kind": (
        HEADLESS | {"a.weight": OWN["fc.weight"], "a.scale": OWN["fc.bias"]},
        "",
        "^it lacks fc.weight, fc.bias; it has a.weight, a.scale, which",
    ),
    "another head of other classes": (
        HEADLESS | {"a.weight": torch.ones(9, 4), "a.bias": torch.ones(9)},
        "",
        r"^fc.weight is \(9, 4\), expected \(2, 4\)",
    ),
    "EMA without a choice": (
        {"state_dict": OTHER, "ema": OWN},
        "",
        "fit, state_dict, ema: choose one, as in PATH::state",
    ),
    "a choice that is not there": ({"state_dict": OWN}, "ema", "wanted begins with ema; it has state_dict.conv.weight"),
    "a mask of another shape": (MASKED | {"conv.weight_mask": ONE}, "", "conv.weight_orig, conv.weight_mask"),
    "complex": (OWN | {"fc.weight": torch.ones(2, 4, dtype=torch.complex64)}, "", "^it lacks fc.weight$"),
    "quantised": (
        OWN | {"conv.weight": torch.ones(4, 3, 3, 3, dtype=torch.int8), "fc.bias": torch.ones(2, dtype=torch.bool)},
        "",
        "^conv.weight is torch.int8, fc.bias is torch.bool, expected floats: save quantised weights as floats$",
    ),
    "quantised, behind a mask": (
        MASKED | {"conv.weight_orig": torch.ones(4, 3, 3, 3, dtype=torch.uint8)},
        "",
        "^conv.weight is torch.uint8, expected floats",
    ),
    "sparse": (OWN | {"fc.weight": torch.ones(2, 4).to_sparse()}, "", "^it lacks fc.weight$"),
    "without values": (OWN | {"fc.weight": torch.ones(2, 4, device="meta")}, "", "^it lacks fc.weight$"),
    "escapes in a name": (OWN | {"\x1b[31m": ONE}, "", r"^it has \\x1b\[31m, which"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_anything_else_is_refused_with_names(form: str) -> None:
    saved, which, message = REFUSED[form]
    with pytest.raises(ValueError, match=message):
        read(saved, OWN, which)


def test_a_network_that_is_masked_itself_takes_its_masks() -> None:
    tensors, notes = read(MASKED, MASKED)
    assert tensors.keys() == MASKED.keys()
    assert not notes

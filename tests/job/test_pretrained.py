"""Files of weights that cannot be where training starts are refused in a line, and their code is never run."""

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import prunelab
from prunelab.channels.plan import Plan
from prunelab.job.pretrained import load_weights
from prunelab.store.weights import weights_content, weights_file


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def with_value(value: float) -> dict[str, torch.Tensor]:
    return net().state_dict() | {"1.running_var": torch.tensor([1.0, value, 1.0])}


BROKEN: dict[str, tuple[Any, str]] = {
    "other": (nn.Linear(2, 3).state_dict(), "cannot be loaded into Sequential: it lacks 0.weight, 0.bias, 1.weight"),
    "classes": (net().state_dict() | {"0.bias": torch.zeros(4)}, r"0.bias is \(4,\), expected \(3,\)"),
    "nan": (with_value(float("nan")), "1.running_var is not finite"),
    "inf": (with_value(float("inf")), "1.running_var is not finite"),
    "quantised": (
        net().state_dict() | {"0.weight": torch.ones(3, 2).to(torch.int8)},
        "0.weight is torch.int8, expected",
    ),
    "module": (net(), "it holds torch.nn.modules.container.Sequential beside tensors, and code in a file is never run"),
    "numpy": ({"state_dict": net().state_dict(), "acc": np.float64(93.2)}, r"it holds numpy[\w.]+ beside tensors"),
    "list": ([torch.zeros(3)], "it holds no state_dict"),
    "tensor": (torch.zeros(3), "it holds no state_dict"),
    "nothing": ({}, "it holds no state_dict"),
    "two": ({"net": net().state_dict(), "ema": net().state_dict()}, "fit, net, ema: choose one, as in PATH::net"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    saved, message = BROKEN[case]
    torch.save(saved, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", message)


def test_a_compact_file_of_half_precision_leaves_the_network_in_its_own(tmp_path: Path) -> None:
    half, own = net().half(), net()
    prunelab.save(tmp_path / "half.safetensors", half, Plan(), None, {})
    load_weights(own, tmp_path / "half.safetensors")
    expected = net().state_dict() | {n: t.float() for n, t in half.state_dict().items() if t.is_floating_point()}
    assert {n: t.dtype for n, t in own.state_dict().items()} == {n: t.dtype for n, t in expected.items()}
    assert all(torch.equal(t, expected[n]) for n, t in own.state_dict().items())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_is_cut_empty_or_something_else_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    save = torch.save if suffix == ".pt" else safetensors.torch.save_file
    save(net().state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:9], b"<!DOCTYPE html><html>Virus scan warning</html>"):
        path.write_bytes(content)
        refused(path, "empty|damaged|it is a text|not a complete safetensors file")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_any_byte_that_is_damaged_is_refused_in_a_line_or_harmless(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    save = torch.save if suffix == ".pt" else safetensors.torch.save_file
    save(net().state_dict(), path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for at in range(min(len(whole), 900)):
        path.write_bytes(whole[:at] + bytes([random.integers(256)]) + whole[at + 1 :])
        with suppress(ValueError):
            load_weights(net(), path)


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_weights(net(), path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(net().eval(), torch.zeros(1, 2)), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "it is a program of TorchScript")


def test_a_compressed_file_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as plain,
        zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as z,
    ):
        for entry in plain.namelist():
            z.writestr(entry, plain.read(entry))
    refused(tmp_path / "z.pt", "compressed archive")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_larger_than_its_file_takes_no_memory(zipped: bool, tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 40)  # 4 TB if it were copied
    saved = net().state_dict() | {"0.weight": huge, "weight_orig": huge, "weight_mask": huge}
    torch.save(saved, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "w.pt", r"0.weight is \(1099511627776,\), expected \(3, 2\)")


def test_one_of_several_networks_is_chosen_and_is_another_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path, source, target = tmp_path / "w.pt", net(), net()
    torch.save({"state_dict": net().state_dict(), "ema": source.state_dict()}, path)
    load_weights(target, f"{path}::ema")
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())
    assert "names begin with ema." in caplog.text
    assert len({weights_content(f"{path}{which}") for which in ("", "::ema", "::state_dict")}) == 3
    path.rename(tmp_path / "w::ema")
    with pytest.raises(ValueError, match="fit, state_dict, ema"):
        load_weights(target, tmp_path / "w::ema")


@pytest.mark.parametrize("prefix", ["", "net."])
def test_the_state_dict_in_a_checkpoint_is_loaded(prefix: str, tmp_path: Path) -> None:
    source, target = net(), net()
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.ckpt")
    load_weights(target, weights_file(tmp_path / "w.ckpt"))
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())

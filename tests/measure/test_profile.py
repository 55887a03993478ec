"""Profiles against values worked out by hand."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunelab
from prunelab.measure import profiler as profiling
from prunelab.measure.latency import resized
from prunelab.measure.profile import Pass, Profile
from prunelab.models.cifar_resnet import resnet8

ONE = {"batches": (1,), "rounds": 2}


class Whole(nn.Linear):
    """A linear layer with weights of 8 bits."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.weight = nn.Parameter(torch.ones(outputs, inputs, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def test_a_float32_net_by_hand() -> None:
    # Convolution 2 -> 4 in two groups over 6x6: 4x4 positions, 4 x 1 x 9 weights. Then 64 -> 3 features.
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    for p in net.parameters():
        nn.init.ones_(p)
    net[0].weight.data[0] = 0  # 9 weights
    net[3].weight.data[:, :10] = 0  # 30 weights
    of = prunelab.profile(net, torch.randn(5, 2, 6, 6), **ONE).net
    assert (of.params, of.nonzero) == (36 + 4 + 8 + 192 + 3, 243 - 9 - 30)
    assert of.sparsity == 39 / 243
    assert (of.macs, of.effective_macs) == (16 * 36 + 192, 16 * 27 + 162)  # 768 and 594
    assert (of.bops, of.effective_bops) == (768 * 32 * 32, 594 * 32 * 32)
    assert of.bytes == 243 * 4 + (4 + 4) * 4 + 8  # running means and variances, and a count of 64 bits
    assert of.footprint_bits == 204 * 32
    assert (of.uncounted, of.unseen) == ({}, ())
    assert [(x.name, x.kind, x.params, x.nonzero, x.macs, x.effective_macs) for x in of.layers] == [
        ("0", "Conv2d", 40, 31, 576, 432),
        ("1", "BatchNorm2d", 8, 8, 0, 0),
        ("3", "Linear", 195, 165, 192, 162),
    ]
    assert (of.layers[1].weight_bits, of.layers[0].sparsity) == (None, 9 / 40)
    assert of.passes[0].peak_bytes == 4 * (64 + 64)  # what the convolution and the norm made lives at once


def test_a_bfloat16_net_by_hand() -> None:
    # Transposed, 4 -> 6 in two groups: each of 5x5 inputs meets 4 x 3 x 3 x 3 = 108 weights; 11x11 come out.
    # Dilated, 6 -> 2: 11 - 2 x 3 = 5, so 5x5 positions and 2 x 6 x 3 x 3 = 108 weights.
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.Conv2d(6, 2, 3, dilation=3)).bfloat16()
    nn.init.zeros_(net[1].weight[:1])  # 54
    of = prunelab.profile(net, torch.randn(2, 4, 5, 5), **ONE).net  # the example is cast to bfloat16
    assert (of.macs, of.effective_macs) == (25 * 108 + 25 * 108, 25 * 108 + 25 * 54)  # 5400 and 4050
    assert (of.bops, of.effective_bops) == (5400 * 16 * 16, 4050 * 16 * 16)
    assert of.bytes == (108 + 6 + 108 + 2) * 2
    assert of.footprint_bits == (108 + 6 + 54 + 2) * 16


def test_a_net_of_mixed_bits_on_sequences_by_hand() -> None:
    # 7 steps: 5 -> 4 with 8-bit weights on float32 (7 x 20 MACs), 4 -> 3 in float32 (7 x 12).
    net = nn.Sequential(Whole(5, 4), nn.Linear(4, 3, bias=False))
    nn.init.ones_(net[1].weight)
    net[0].weight[0, :2] = 0  # 2 weights
    of = prunelab.profile(net, torch.randn(3, 7, 5), **ONE).net
    assert (of.macs, of.effective_macs) == (140 + 84, 7 * 18 + 84)
    assert of.bops == 140 * 8 * 32 + 84 * 32 * 32  # 121,856
    assert of.effective_bops == 126 * 8 * 32 + 84 * 32 * 32
    assert of.bytes == 20 * 1 + 12 * 4
    assert of.footprint_bits == 18 * 8 + 12 * 32
    assert [(x.weight_bits, x.activation_bits) for x in of.layers] == [(8, 32), (32, 32)]


def test_a_shared_weight_is_stored_once_and_multiplied_twice() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    net[2].weight = net[0].weight
    of = prunelab.profile(net, torch.ones(1, 3), **ONE).net
    assert (of.params, of.bytes, of.macs) == (9, 36, 18)
    assert [(x.name, x.params, x.macs, x.sparsity) for x in of.layers] == [("0", 9, 9, 0.0), ("2", 0, 9, 0.0)]


def test_a_compiled_network_is_named_and_counted_as_the_original() -> None:
    net = resnet8()
    compiled = prunelab.profile(torch.compile(net, backend="eager"), torch.zeros(1, 3, 32, 32), **ONE).net
    plain = prunelab.profile(net, torch.zeros(1, 3, 32, 32), **ONE).net
    assert dataclasses.replace(compiled, passes=()) == dataclasses.replace(plain, passes=())


def test_counts_are_of_one_input_also_where_work_does_not_grow_with_the_batch() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.rows = nn.Linear(4, 2), nn.Parameter(torch.ones(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.layer(self.rows).T  # (n, 3): 3 x 8 MACs whatever n, and n x 2 x 3

    of = prunelab.profile(Table(), torch.zeros(10, 2), **ONE).net
    assert (of.macs, of.uncounted) == (24, {"": 6})


def test_medians_and_quartiles_of_interleaved_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def timings(nets: Sequence[nn.Module], example: tuple[Tensor, ...], rounds: int, warmup: int) -> list[list[float]]:
        calls.append((len(nets), len(example[0]), rounds, warmup))
        return [[5.0, 1.0, 2.0, 3.0, 4.0], [10.0] * 5][: len(nets)]

    monkeypatch.setattr(profiling, "timings", timings)
    net = nn.ReLU()
    profile = prunelab.profile(net, torch.zeros(3, 2), dense=nn.ReLU(), batches=(1, 4), rounds=5)
    assert calls == [(2, 1, 5, 5), (2, 4, 5, 5)]
    assert profile.net.passes == (Pass(1, 3.0, 2.0, 4.0, 8), Pass(4, 3.0, 2.0, 4.0, 32))
    assert profile.dense is not None
    assert profile.dense.passes[0] == Pass(1, 10.0, 10.0, 10.0, 8)


def test_batches_repeat_the_inputs_in_turn() -> None:
    x, y = resized((torch.tensor([[1.0], [2.0]]), torch.tensor([3, 4])), 5)
    assert x.tolist() == [[1.0], [2.0], [1.0], [2.0], [1.0]]
    assert y.tolist() == [3, 4, 3, 4, 3]


@pytest.fixture(scope="module")
def masked() -> Profile:
    torch.manual_seed(0)
    dense = resnet8()
    net = copy.deepcopy(dense)
    net.get_submodule("fc").weight.data.zero_()
    return prunelab.profile(net, torch.randn(2, 3, 32, 32), dense=dense, batches=(1, 2), rounds=2)


def test_a_profile_is_json_of_plain_numbers(masked: Profile) -> None:
    loaded = json.loads(json.dumps(dataclasses.asdict(masked)))
    assert loaded["net"]["layers"][0]["macs"] == masked.net.layers[0].macs
    assert [p["batch"] for p in loaded["dense"]["passes"]] == [1, 2]
    assert (loaded["device"], loaded["threads"], loaded["rounds"]) == ("cpu", torch.get_num_threads(), 2)
    assert all(0 < p["lower"] <= p["seconds"] <= p["upper"] for p in loaded["net"]["passes"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        masked.device = "abacus"  # type: ignore[misc]


def test_a_masked_network_costs_less_than_the_dense_one_only_where_zeros_are_credited(masked: Profile) -> None:
    net, dense = masked.net, masked.dense
    assert dense is not None
    assert (net.params, net.macs, net.bytes) == (dense.params, dense.macs, dense.bytes)
    assert dense.nonzero - net.nonzero == dense.effective_macs - net.effective_macs == 64 * 10


def test_state_is_preserved() -> None:
    net = resnet8().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    stream = torch.random.get_rng_state()
    prunelab.profile(net, torch.randn(2, 3, 32, 32, generator=torch.Generator()), **ONE)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert torch.equal(torch.random.get_rng_state(), stream)


@pytest.mark.parametrize(
    ("example", "options", "message"),
    [
        (torch.tensor(1.0), {}, r"shape \(\): expected a batch"),
        (torch.zeros(0, 2), {}, r"shape \(0, 2\)"),
        ((torch.zeros(2, 2), torch.zeros(3, 2)), {}, r"\(2, 2\), \(3, 2\)"),
        ((), {}, "expected a batch"),
        (torch.zeros(1, 2), {"rounds": 1}, "rounds=1"),
        (torch.zeros(1, 2), {"batches": (1, 0)}, r"batches=\(1, 0\)"),
        (torch.zeros(1, 2), {"batches": ()}, r"batches=\(\)"),
        (torch.zeros(1, 2), {"dense": nn.Linear(2, 2, device="meta")}, "on cpu and meta: move them"),
    ],
)
def test_invalid_arguments_are_refused(example: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prunelab.profile(nn.Linear(2, 2), example, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_names_the_device_and_its_peak() -> None:
    profile = prunelab.profile(resnet8().cuda(), torch.randn(2, 3, 32, 32), dense=resnet8().cuda(), rounds=2)
    assert profile.device == torch.cuda.get_device_name()
    assert all((p.peak_bytes or 0) > 0 for p in profile.net.passes)


class Packed(nn.Module):
    """Holds its weights as PyTorch's int8 layers do: in its state, but neither as a parameter nor as a buffer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.held = (layer.weight.detach().to(torch.int8), torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.held[0].float().T * self.held[1])

    def _save_to_state_dict(self, destination: dict[str, object], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "held"] = self.held
        destination[prefix + "dtype"] = torch.int8


def test_packed_weights_are_named_as_not_counted_and_their_bytes_are() -> None:
    dense = nn.Sequential(nn.Linear(8, 6, bias=False), nn.Linear(6, 4))
    found = prunelab.profile(nn.Sequential(dense[0], Packed(dense[1])), torch.zeros(2, 8), dense=dense, **ONE)
    assert (found.net.params, found.net.macs, found.net.packed) == (48, 48, ("1.held",))
    assert found.net.bytes == 4 * 48 + 24 + 4
    words = " ".join(str(found).split())
    assert "Layers of the dense network that were removed" not in words
    assert "Not counted: weights that are no parameters, and their products: 1.held." in words


def test_a_hook_that_renames_parameters_adds_none() -> None:
    net = nn.Sequential(nn.Linear(8, 6), Packed(nn.Linear(6, 4)))
    net.register_buffer("edges", torch.eye(3).to_sparse(), persistent=False)  # whose place nobody may ask for
    before = prunelab.profile(net, torch.zeros(2, 8), **ONE).net

    def rename(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        state |= {f"wrapped.{key}": state.pop(key) for key in list(state)}

    net.register_state_dict_post_hook(rename)
    found = prunelab.profile(net, torch.zeros(2, 8), **ONE).net
    assert (found.bytes, found.packed) == (before.bytes, ("wrapped.1.held",))


def test_a_hook_that_copies_parameters_adds_none() -> None:
    class Copying(nn.Linear):
        def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
            state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
            return state.update({key: value.clone() for key, value in state.items()}) or state

    found = prunelab.profile(nn.Sequential(Copying(8, 6)), torch.zeros(2, 8), **ONE).net
    assert (found.bytes, found.packed) == (4 * 54, ())


def test_a_layer_that_was_replaced_by_a_module_of_layers_was_not_removed() -> None:
    dense = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    small = nn.Sequential(dense[0], nn.Sequential(nn.Linear(6, 1), nn.Linear(1, 4)))
    assert "were removed" not in str(prunelab.profile(small, torch.zeros(2, 8), dense=dense, **ONE))

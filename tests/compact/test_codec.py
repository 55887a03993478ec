"""Tensors are decoded to the bit and encoded in the smallest way."""

import itertools
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from prunelab.compact.codec import Encoded, decode, encode

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHERS = (torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
SHAPES = ((), (0,), (1,), (7,), (3, 0, 2), (40, 50), (8, 5, 3, 3), (1, 3000))
SPECIAL = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, -1e-45, 2.0**-126, -3.4028234e38)


def round_trip(coded: Encoded) -> Tensor:
    return decode(coded.record, coded.parts)


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


def assert_same(decoded: Tensor, tensor: Tensor) -> None:
    assert (decoded.dtype, decoded.shape) == (tensor.dtype, tensor.shape)
    assert bits(decoded) == bits(tensor)


def masked(shape: tuple[int, ...], density: float, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(shape, generator=stream) < density, torch.randn(shape, generator=stream), 0)


def kinds(coded: Encoded) -> tuple[str, ...]:
    return tuple(sorted(coded.parts))


def test_any_tensor_round_trips_to_the_bit() -> None:
    written = set()
    for shape, density, dtype in itertools.product(SHAPES, (0, 0.001, 0.05, 0.5, 0.95, 1), FLOATS + OTHERS):
        tensor = masked(shape, density).to(dtype)
        coded = encode(tensor)
        assert_same(round_trip(coded), tensor)
        assert coded.bytes <= tensor.nbytes
        assert coded.k == int(tensor.count_nonzero()) or dtype == torch.complex128
        written.add(kinds(coded))
    assert {("whole",), ("kept", "values"), ()} <= written


@pytest.mark.parametrize("dtype", FLOATS)
def test_signs_of_zeros_nan_infinities_and_denormals_round_trip_to_the_bit(dtype: torch.dtype) -> None:
    draw = random.Random(0)
    for n, zeros in itertools.product((1, 9, 400, 3000), (0, 0.5, 0.99)):
        numbers = [0.0 if draw.random() < zeros else draw.choice(SPECIAL) for _ in range(n)]
        tensor = torch.tensor(numbers, dtype=torch.float64).to(dtype)
        assert_same(round_trip(encode(tensor)), tensor)
        plain = round_trip(encode(tensor, signed_zeros=False))
        assert torch.equal(plain.isnan(), tensor.isnan())
        assert torch.equal(plain.nan_to_num(7), tensor.nan_to_num(7))
        assert not (plain.signbit() & (plain == 0)).any()


def test_every_pattern_of_16_bits_round_trips() -> None:
    patterns = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
    rare = torch.zeros(200 * len(patterns), dtype=torch.int16)
    rare[::200] = patterns
    for tensor, dtype in itertools.product((patterns, rare), (torch.float16, torch.bfloat16)):
        assert torch.equal(round_trip(encode(tensor.view(dtype))).view(torch.int16), tensor)


def test_nan_payloads_round_trip() -> None:
    tensor = torch.zeros(1000, dtype=torch.int32)
    tensor[:4] = torch.tensor([0x7F800001, 0x7FC12345, -1, -(1 << 31)])  # signalling, a payload, all ones; and -0.0
    assert torch.equal(round_trip(encode(tensor.view(torch.float32))).view(torch.int32), tensor)


def test_denormal_numbers_are_kept_where_they_compare_equal_to_0() -> None:
    tensor = torch.zeros(1000).view(torch.int32).index_fill_(0, torch.tensor([5, 500]), 1).view(torch.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        coded = encode(tensor)
        assert_same(round_trip(coded), tensor)
    finally:
        torch.set_flush_denormal(False)
    assert kinds(coded) == ("kept", "values")


def test_other_memory_layouts_round_trip() -> None:
    tensor = masked((6, 5, 40, 4), 0.05)
    for odd in (
        tensor.transpose(0, 3),
        tensor.to(memory_format=torch.channels_last),
        tensor[:, 1],
        tensor[:1].expand(9, -1, -1, -1),
    ):
        assert_same(round_trip(encode(odd)), odd)


def test_decoded_tensors_own_their_memory() -> None:
    for tensor in (torch.ones(5), masked((50, 50), 0.1), torch.zeros(2000)):
        before, coded = tensor.clone(), encode(tensor)
        round_trip(coded).fill_(3)
        assert torch.equal(round_trip(coded), before)
        assert torch.equal(tensor, before)


def test_the_smallest_encoding_is_chosen() -> None:
    n = 10_000
    assert kinds(encode(torch.ones(n))) == ("whole",)
    assert kinds(encode(masked((n,), 0.99))) == ("whole",)
    half = encode(masked((n,), 0.5))
    assert half.record["kept"][0] == 0  # a bitmap
    assert half.parts["kept"].numel() == n // 8
    few = encode(masked((n,), 0.02))
    assert few.record["kept"][0] == 5
    assert few.parts["kept"].numel() < n // 8 / 5
    assert kinds(encode(torch.zeros(n))) == ()
    assert kinds(encode(masked((20,), 0.5))) == ("whole",)  # so short that a record costs more than it saves
    assert kinds(encode(torch.ones(n, 1), "float16")) == ("values",)
    assert kinds(encode(masked((100, 100), 0.999), "float16")) == ("values",)
    assert kinds(encode(masked((100, 100), 0.999), "int8")) == ("kept", "scale", "values")


@pytest.mark.parametrize("values", ["float16", "int8"])
@pytest.mark.parametrize("density", [0, 0.001, 0.03, 0.5, 0.99, 1])
def test_rounding_keeps_zeros_and_makes_none(values: str, density: float) -> None:
    tensor = (
        masked((64, 32, 3, 3), density) * 10.0 ** torch.arange(-40, 24, dtype=torch.float64).div(8)[:, None, None, None]
    )
    tensor = tensor.float()
    tensor[3] = -tensor[3]  # has -0.0
    coded = encode(tensor, values)
    decoded = round_trip(coded)
    assert torch.equal(decoded == 0, tensor == 0)
    assert not (decoded.signbit() & (decoded == 0)).any()
    assert decoded.dtype == torch.float32
    if values == "float16":
        assert torch.equal(
            decoded, torch.where((tensor.half() == 0) & (tensor != 0), 2.0**-24 * tensor.sign(), tensor.half()) + 0.0
        )
    else:
        step = tensor.abs().amax((1, 2, 3), keepdim=True) / 127
        assert ((decoded - tensor).abs() <= step * 0.50001).all()


def test_rows_without_weights_take_no_scale() -> None:
    tensor = masked((64, 500), 0.2)
    tensor[10:60] = 0
    coded = encode(tensor, "int8")
    assert coded.parts["scale"].shape == (14,)
    assert round_trip(coded)[60:].ne(0).equal(tensor[60:].ne(0))


def test_biases_and_norms_are_never_rounded() -> None:
    tensor = torch.randn(700, generator=torch.Generator().manual_seed(0))
    assert_same(round_trip(encode(tensor, "int8")), tensor)


SPARSE = encode(masked((40, 50), 0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float33"}, "dtype='float33'"),
        ({"dtype": ["float32"]}, "expected a torch dtype"),
        ({"dtype": None}, "expected a torch dtype"),
        ({"shape": None}, "expected a list of sizes"),
        ({"shape": [40, -50]}, "expected a list of sizes"),
        ({"shape": [40, 50.0]}, "expected a list of sizes"),
        ({"shape": [40, 5]}, "positions"),
        ({"kept": [2, 1]}, "positions"),
        ({"kept": [0, 2000]}, "positions"),
        ({"kept": None}, "positions"),
        ({"minus": [0, 5]}, "positions"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode({**SPARSE.record, **change}, SPARSE.parts)


def test_positions_that_are_not_bytes_are_refused() -> None:
    for part in (SPARSE.parts["kept"].to(torch.int16), SPARSE.parts["kept"][None]):
        with pytest.raises(ValueError, match="expected bytes"):
            decode(SPARSE.record, {**SPARSE.parts, "kept": part})


def test_parts_that_do_not_fit_are_refused() -> None:
    for values in (SPARSE.parts["values"][1:], SPARSE.parts["values"][None], torch.empty(0)):
        with pytest.raises(ValueError, match="values, expected"):
            decode(SPARSE.record, {**SPARSE.parts, "values": values})
    with pytest.raises(ValueError, match="values, expected"):
        decode(SPARSE.record, {"kept": SPARSE.parts["kept"]})

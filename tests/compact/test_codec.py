"""Tensors are decoded to the bit, in few bytes; records and bytes that do not match are refused."""

import itertools
import math
import random
import zlib
from typing import Any

import pytest
import torch
from torch import Tensor

from prunelab.compact.codec import Record, checked, decode, digest, encode, inflate

Coded = tuple[Record, bytes]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHERS = (torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
BARE = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.uint16, torch.uint32, torch.uint64)
SHAPES = ((), (0,), (1,), (7,), (3, 0, 2), (40, 50), (8, 5, 3, 3), (1, 3000))
SPECIAL = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, -1e-45, 2.0**-126, -3.4028234e38)


def round_trip(coded: Coded) -> Tensor:
    record, data = coded
    assert (len(data), digest(data)) == (record.bytes, record.sha256)
    fields = [*record]
    assert checked([fields[0], list(record.shape), *fields[2:]]) == record
    return decode(record, data)


def entropy(n: int, k: int) -> float:
    """Bits to say which k of n, all choices equally likely: n * H(k / n), H in bits (Shannon 1948)."""
    return -sum(part * math.log2(part / n) for part in (k, n - k) if part)


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


def assert_same(decoded: Tensor, tensor: Tensor) -> None:
    assert (decoded.dtype, decoded.shape) == (tensor.dtype, tensor.shape)
    assert bits(decoded) == bits(tensor)


def masked(shape: tuple[int, ...], density: float, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(shape, generator=stream) < density, torch.randn(shape, generator=stream), 0)


def test_any_tensor_round_trips_to_the_bit() -> None:
    for shape, density, dtype in itertools.product(SHAPES, (0, 0.001, 0.05, 0.5, 0.95, 1), FLOATS + OTHERS):
        tensor = masked(shape, density).to(dtype)
        coded = encode(tensor)
        assert_same(round_trip(coded), tensor)
        assert len(coded[1]) <= 1.2 * tensor.nbytes + 10 * tensor.element_size()
        assert coded[0].kept == int(tensor.count_nonzero()) or dtype == torch.complex128


@pytest.mark.parametrize("dtype", BARE)
def test_a_type_that_is_hardly_computed_with_round_trips_to_the_bit(dtype: torch.dtype) -> None:
    for density in (0, 0.02, 0.5, 1):
        rows = (masked((40, 1), density) != 0) * torch.arange(1, 1 + dtype.itemsize)
        tensor = rows.to(torch.uint8).view(dtype).flatten()
        coded = encode(tensor)
        assert_same(round_trip(coded), tensor)
        assert coded[0].kept == int((rows[:, 0] != 0).sum())


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
    assert coded[0].kept == 2


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


@pytest.mark.parametrize(
    ("rate", "most"), [(0.0, 1.02), (0.5, 1.02), (0.8, 1.02), (0.9, 1.03), (0.95, 1.03), (0.985, 1.04)]
)
def test_gaussian_weights_take_little_more_than_their_entropy(rate: float, most: float) -> None:
    tensor = masked((500, 2000), 1 - rate)
    k = int(tensor.count_nonzero())
    _, exponents = tensor[tensor != 0].frexp()
    shares = exponents.unique(return_counts=True)[1] / k
    bits = 24 * k - float((shares * shares.log2()).sum()) * k  # signs and mantissas are random
    assert len(encode(tensor)[1]) < most * (bits + entropy(tensor.numel(), k)) / 8
    assert len(encode(tensor, "float16")[1]) < 0.66 * len(encode(tensor)[1])
    assert len(encode(tensor, "int8")[1]) < 1.1 * (8 * k + entropy(tensor.numel(), k)) / 8 + 2000


def test_signs_of_zeros_take_a_bit_each() -> None:
    tensor = torch.tensor([1.0, -0.0, 0.0, -0.0] * 1000)[
        torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    ]
    signed, plain = encode(tensor), encode(tensor, signed_zeros=False)
    assert (signed[0].signs, plain[0].signs) == (True, False)
    assert 0.9 * entropy(3000, 2000) / 8 < len(signed[1]) - len(plain[1]) < 3000 / 8 + 20


def test_a_mask_by_hand() -> None:
    record, data = encode(torch.tensor([[0, 7], [0, 1]], dtype=torch.uint8))
    assert inflate(data, 9) == bytes([0b01010000, 7, 1])  # a bitmap, and what is not 0
    assert record == ("uint8", (2, 2), 2, "float32", False, len(data), digest(data))
    _, data = encode(torch.tensor([0] * 300 + [9] + [0] * 100, dtype=torch.uint8))
    assert inflate(data, 9) == bytes([300 - 256, 1, 0, 0, 9])  # the gap before it
    _, data = encode(torch.tensor([1, 258], dtype=torch.int16))
    assert inflate(data, 9) == bytes([1, 2, 0, 1])  # no bitmap; the low bytes, then the high ones


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


def test_rows_without_weights_take_hardly_a_byte() -> None:
    tensor = masked((64, 500), 0.2)
    tensor[10:60] = 0
    few, many = encode(tensor[[*range(10), *range(60, 64)]], "int8"), encode(tensor, "int8")
    assert len(many[1]) < len(few[1]) + 100
    assert round_trip(many)[60:].ne(0).equal(tensor[60:].ne(0))


def test_biases_and_norms_are_never_rounded() -> None:
    tensor = torch.randn(700, generator=torch.Generator().manual_seed(0))
    assert_same(round_trip(encode(tensor, "int8")), tensor)


SPARSE, DATA = encode(masked((40, 50), 0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float33"}, "dtype='float33'"),
        ({"dtype": ["float32"]}, "expected a torch dtype"),
        ({"dtype": None}, "expected a torch dtype"),
        ({"shape": None}, "expected a list of sizes"),
        ({"shape": [40, -50]}, "expected a list of sizes"),
        ({"shape": [40, 50.0]}, "expected a list of sizes"),
        ({"shape": [40, 5]}, "kept=.*expected at most 200"),
        ({"shape": [1 << 14, 1 << 15]}, "expected at most 268,435,456 values"),
        ({"kept": -1}, "kept=-1: expected at most 2,000"),
        ({"kept": 1.0}, "kept=1.0"),
        ({"kept": True}, "kept=True"),
        ({"values": "int4"}, "values='int4': expected one of"),
        ({"values": ["int8"]}, "values="),
        ({"signs": 1}, "signs=1: expected"),
        ({"signs": True, "dtype": "int32"}, "signs=True: expected"),
        ({"bytes": 0}, "bytes=0: expected"),
        ({"bytes": "9"}, "bytes='9': expected"),
    ],
)
def test_a_record_that_encode_does_not_return_is_refused(change: dict[str, Any], message: str) -> None:
    fields = SPARSE._asdict() | {"shape": [40, 50]}
    assert checked(list(fields.values())) == SPARSE
    with pytest.raises(ValueError, match=message):
        checked(list((fields | change).values()))
    for odd in (None, {}, [], list(fields.values())[1:]):
        with pytest.raises(ValueError, match="expected dtype, shape, kept"):
            checked(odd)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (10**30,), "kept": 10**30},
        {"dtype": "float16"},
        {"shape": (40, 40)},
        {"shape": (40, 60)},
        {"kept": SPARSE.kept - 1},
        {"kept": 0},
        {"kept": 2000},
        {"values": "int8"},
        {"values": "float16"},
        {"signs": True},
    ],
)
def test_bytes_of_another_record_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="inflate|positions are"):
        decode(SPARSE._replace(**change), DATA)


@pytest.mark.parametrize("gaps", [[-1, 1], [1 << 31, 1], [1999, 0], [0, 1999]])
def test_gaps_that_lead_elsewhere_are_refused(gaps: list[int]) -> None:
    record, _ = encode(torch.eye(1, 2000, dtype=torch.uint8).flatten() + torch.eye(2, 2000, dtype=torch.uint8)[1])
    assert record.kept == 2
    planes = torch.tensor(gaps).to(torch.int32)[:, None].view(torch.uint8).T.flatten().tolist()
    data = zlib.compress(bytes([*planes, 1, 1]), wbits=-15)
    with pytest.raises(ValueError, match="its positions are not 2 of 2,000"):
        decode(record._replace(sha256=digest(data)), data)


def test_a_bitmap_of_another_number_is_refused() -> None:
    raw = bytearray(inflate(DATA, 1 << 20))
    raw[0] ^= 1
    data = zlib.compress(raw, wbits=-15)
    with pytest.raises(ValueError, match=f"its positions are not {SPARSE.kept} of 2,000"):
        decode(SPARSE._replace(sha256=digest(data)), data)


def test_no_more_is_inflated_than_the_record_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zlib.compress(bytes(1 << 26), wbits=-15)
    made = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self.stream = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            made.append(len(found := self.stream.decompress(data, most)))
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(ValueError, match="does not inflate to at most 1,000 bytes"):
        inflate(bomb, 1000)
    assert made == [1001]
    assert len(inflate(bomb, 1 << 26)) == 1 << 26


def test_damaged_bytes_are_refused() -> None:
    draw = random.Random(0)
    for at in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[at] ^= 1 << draw.randrange(8)
        with pytest.raises(ValueError, match="does not match its sha256.*copy it again"):
            decode(SPARSE, bytes(damaged))
    for data in (b"", DATA[:-1], DATA + b"x"):
        with pytest.raises(ValueError, match="inflate"):
            inflate(data, 1 << 20)

"""Rounding errors are bounded, and no weight becomes 0."""

import pytest
import torch
from torch import Tensor

from prunelab.compact.quantize import NARROW, dequantize, quantize, stored_dtype

TINY = 2.0**-149  # the smallest float32
WILD = [float("nan"), float("inf"), -float("inf")]


def round_trip(kept: Tensor, rows: Tensor, values: str) -> Tensor:
    return dequantize(*quantize(kept, rows, int(rows.max()) + 1, NARROW[values]), rows, kept.dtype)


def test_int8_by_hand() -> None:
    # 256 steps from -64 to 64 are 0.5 each, their middles -63.75, ..., -0.25, 0.25, ..., 63.75
    kept, rows = torch.tensor([64.0, -64.0, 0.1, -0.1, 1.0, -1.01, 3.0]), torch.tensor([2, 2, 2, 2, 2, 2, 5])
    stored, scale = quantize(kept, rows, 6, torch.int8)
    assert stored.tolist() == [127, -128, 0, -1, 2, -3, 127]
    assert scale[[2, 5]].tolist() == [0.5, 3 / 128]
    rounded = dequantize(stored, scale, rows, torch.float32)
    assert rounded[:6].tolist() == [63.75, -63.75, 0.25, -0.25, 1.25, -1.25]
    assert rounded[6] == 127.5 * 3 / 128


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_of_int8_is_at_most_half_a_step_of_its_row_and_no_weight_becomes_0(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    rows = torch.randint(40, (20_000,), generator=stream).sort().values
    sizes = 10.0 ** torch.linspace(-30, 30, 40, dtype=dtype)
    kept = torch.randn(len(rows), generator=stream, dtype=dtype) * sizes[rows]
    kept[::7] *= 1e-6
    kept[kept == 0] = 1e-30
    rounded = round_trip(kept, rows, "int8")
    for row in rows.unique():
        exact, back = kept[rows == row].double(), rounded[rows == row].double()
        step = exact.abs().max() / 128 * (1 if dtype == torch.float64 else 1 + 1 / 128)  # scales are rounded up
        assert (exact - back).abs().max() <= step / 2 * (1 + 1e-4)
        assert torch.equal(exact.sign(), back.sign())


@pytest.mark.parametrize("size", [TINY, -TINY, 5 * TINY, 2.0**-126, 2.0**-120, 3.4028234e38, -3.4028234e38])
@pytest.mark.parametrize("values", ["int8", "float16"])
def test_the_smallest_and_largest_weights_keep_their_sign_or_are_refused(size: float, values: str) -> None:
    kept, rows = torch.tensor([size]), torch.tensor([0])
    if values == "float16" and abs(size) > 1:
        with pytest.raises(ValueError, match=r"1 weights are beyond float16, 65504: values='float32' keeps them"):
            quantize(kept, rows, 1, NARROW[values])
        return
    rounded = round_trip(kept, rows, values)
    assert rounded.isfinite().all()
    assert torch.equal(rounded.sign(), kept.sign())


def test_float16_rounds_to_nearest_but_never_to_0() -> None:
    kept = torch.tensor([1.0, 1 + 2.0**-12, 65504.0, 2.0**-24, 2.0**-25, -(2.0**-30), 0.0, *WILD])
    rounded = round_trip(kept, torch.zeros(len(kept), dtype=torch.long), "float16")
    assert rounded[:7].tolist() == [1, 1, 65504, 2.0**-24, 2.0**-24, -(2.0**-24), 0]
    assert str(rounded[7:].tolist()) == "[nan, inf, -inf]"


@pytest.mark.parametrize("wild", WILD)
def test_int8_refuses_values_that_are_not_finite(wild: float) -> None:
    with pytest.raises(ValueError, match="1 weights are NaN or infinite, .*values='float32' keeps them"):
        quantize(torch.tensor([1, wild]), torch.zeros(2, dtype=torch.long), 1, torch.int8)


def test_only_weights_that_become_narrower_are_rounded() -> None:
    assert stored_dtype(torch.float32, 2, "int8") == torch.int8
    assert stored_dtype(torch.float32, 2, "float16") == torch.float16
    assert stored_dtype(torch.float16, 2, "int8") == torch.int8
    assert stored_dtype(torch.float32, 2, "float32") == torch.float32
    assert stored_dtype(torch.float16, 2, "float16") == torch.float16
    assert stored_dtype(torch.float64, 2, "float32") == torch.float64
    assert stored_dtype(torch.float32, 1, "int8") == torch.float32
    assert stored_dtype(torch.int64, 2, "int8") == torch.int64
    with pytest.raises(ValueError, match="values='int4': expected one of float32, float16, int8"):
        stored_dtype(torch.float32, 2, "int4")

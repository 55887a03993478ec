"""Rounding errors are bounded, and no weight becomes 0."""

import pytest
import torch
from torch import Tensor

from prunelab.compact.quantize import dequantize, is_quantized, quantize

TINY = 2.0**-149  # the smallest float32
WILD = [float("nan"), float("inf"), -float("inf")]


def round_trip(kept: Tensor, rows: Tensor, values: str) -> Tensor:
    return dequantize(quantize(kept, rows, values), rows, kept.dtype)


def test_int8_by_hand() -> None:
    # 256 steps from -64 to 64 are 0.5 each, their middles -63.75, ..., -0.25, 0.25, ..., 63.75
    kept, rows = torch.tensor([64.0, -64.0, 0.1, -0.1, 1.0, -1.01, 3.0]), torch.tensor([2, 2, 2, 2, 2, 2, 5])
    parts = quantize(kept, rows, "int8")
    assert parts["values"].tolist() == [127, -128, 0, -1, 2, -3, 127]
    assert parts["scale"].tolist() == [0.5, 3 / 128]
    rounded = dequantize(parts, rows, torch.float32)
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
            quantize(kept, rows, values)
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
        quantize(torch.tensor([1, wild]), torch.zeros(2, dtype=torch.long), "int8")


def test_only_weights_that_become_narrower_are_rounded() -> None:
    weight = torch.ones(2, 2)
    assert is_quantized(weight, "int8")
    assert is_quantized(weight, "float16")
    assert is_quantized(weight.half(), "int8")
    assert not is_quantized(weight, "float32")
    assert not is_quantized(weight.half(), "float16")
    assert not is_quantized(weight.double(), "float32")
    assert not is_quantized(weight[0], "int8")
    assert not is_quantized(weight.long(), "int8")
    with pytest.raises(ValueError, match="values='int4': expected one of float32, float16, int8"):
        is_quantized(weight, "int4")


def test_scales_of_other_rows_are_refused() -> None:
    parts = quantize(torch.ones(3), torch.tensor([0, 1, 1]), "int8")
    with pytest.raises(ValueError, match="2 scales, expected 3"):
        dequantize(parts, torch.tensor([0, 1, 2]), torch.float32)

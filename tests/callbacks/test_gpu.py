"""The laws on a GPU: masks on the weights' device, in bf16, through a compiled network."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("method", ["usp", "sp"])
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_job_on_a_gpu_ends_with_exact_zeros_or_without_them(method: str, compiled: str, job) -> None:
    result = job(f"prune={method}", "rate=0.5", "trainer=gpu", f"compile={compiled}")
    pruner = next(v for k, v in result["checkpoint"]["callbacks"].items() if k.startswith("Pruning"))
    assert pruner["removed"] == (method == "sp")
    for name, kept in pruner["keep"].items():
        assert int((~kept).sum()) == round(0.5 * kept.numel())
        if not pruner["removed"]:
            assert not result["state_dict"][name].cpu()[~kept.cpu()].any()
    if pruner["removed"]:
        assert result["surgery"]["certificate"]["eval_float64"] < 1e-9

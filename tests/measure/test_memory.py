"""Peak memory of a forward pass, by hand."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor, nn

from prunelab.measure import memory
from prunelab.measure.memory import peak
from prunelab.models.cifar_resnet import resnet8


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a = x + 1  # 400 bytes for x of 100 floats
        b = a + 1  # 800
        del a  # 400
        c = torch.cat([b, b])  # 1200, the most
        del b  # 800
        return c.view(2, -1).relu_()  # neither allocates


def test_live_tensors_count_and_views_do_not() -> None:
    assert peak(Branches(), torch.zeros(1, 100)) == 1200


def test_the_network_and_its_input_do_not_count() -> None:
    net = nn.Sequential(nn.Linear(1000, 10), nn.ReLU(inplace=True), nn.Linear(10, 100))  # (2, 10), then (2, 100)
    assert peak(net, torch.zeros(2, 1000)) == 4 * (20 + 200)
    assert peak(net.double(), torch.zeros(2, 1000)) == 8 * (20 + 200)


def test_a_measurement_is_repeatable_and_preserves_state() -> None:
    net, x = resnet8().train(), torch.randn(2, 3, 32, 32)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert peak(net, x) == peak(net, x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())


def test_other_devices_are_not_measured() -> None:
    assert set(memory.METHODS) == {"cpu", "cuda"}
    assert peak(nn.ReLU(), torch.zeros(1, 3, device="meta")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_reports_what_a_pass_allocates() -> None:
    net = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1024)).cuda()
    x = torch.zeros(2048, 1024)
    made = 4 * 2048 * (4096 + 1024)
    assert made <= (peak(net, x) or 0) < 2 * made  # and workspaces of kernels


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak of a process")
def test_the_peak_of_training_counts_memory_that_an_earlier_job_has_freed_and_the_process_keeps() -> None:
    text = """
        import torch
        from prunelab.job.allocator import keep_freed_memory
        from prunelab.measure.memory import begin_training_peak, training_peak
        keep_freed_memory()
        for _ in range(2):
            begun = begin_training_peak(torch.device("cpu"))
            made = [torch.ones(1 << 20) for _ in range(16)]
            peak, made = training_peak(torch.device("cpu"), begun), None
        print(peak)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True)
    assert 60e6 < int(ran.stdout) < 80e6  # 16 tensors of 2**22 bytes

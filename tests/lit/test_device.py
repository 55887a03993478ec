"""The device of a run."""

import pytest

from prunelab.lit.device import check_devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def test_more_devices_than_gpus_are_refused(two_gpus) -> None:
    with pytest.raises(ValueError, match="trainer.devices=3: there are 2 GPUs; lower it"):
        check_devices("auto", 3, "auto")
    check_devices("auto", 2, "auto")
    check_devices("cpu", 3, "auto")


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match=f"trainer.accelerator={accelerator}: there is none here"):
        check_devices(accelerator, 1, "auto")


def test_float16_on_a_cpu_which_trains_bfloat16_is_refused(two_gpus) -> None:
    with pytest.raises(ValueError, match="precision=16-mixed on a CPU, where Lightning trains bfloat16"):
        check_devices("cpu", 1, "16-mixed")
    check_devices("cpu", 1, "bf16-mixed")
    check_devices("gpu", 1, "16-mixed")


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "mps"])
def test_float16_on_a_mac_is_not_taken_for_one_on_a_cpu(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    check_devices(accelerator, 1, "16-mixed")
    with pytest.raises(ValueError, match="precision=16-mixed on a CPU"):
        check_devices("cpu", 1, "16-mixed")

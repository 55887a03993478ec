"""The device of a run."""

import pytest

from prunelab.lit.device import check_devices


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match="trainer.devices=3: there are 2 GPUs; lower it"):
        check_devices("auto", 3)
    check_devices("auto", 2)
    check_devices("cpu", 3)

"""Device slots: no slot is given twice, and a job that needs its devices alone shares them with none."""

import itertools
import random

import pytest

from prunelab.sweep.pool import devices
from prunelab.sweep.pool.devices import CPU, DeviceSlots, absent, visible_gpus


def test_jobs_spread_over_devices_and_no_slot_is_given_twice() -> None:
    slots = DeviceSlots(["0", "1"], 2)
    assert [slots.take(1) for _ in range(5)] == [["0"], ["1"], ["0"], ["1"], None]
    slots.give(["1"])
    assert slots.take(1) == ["1"]


def test_a_job_of_two_devices_gets_two_different_ones() -> None:
    slots = DeviceSlots(["0", "1", "2"], 1)
    assert slots.take(1) == ["0"]
    assert slots.take(2) == ["1", "2"]
    assert slots.most == 3


def test_alone_is_the_whole_device() -> None:
    slots = DeviceSlots(["0", "1"], 2)
    taken = slots.take(1)
    assert slots.take(1, alone=True) == ["1", "1"]
    assert slots.take(2, alone=True) is None
    slots.give(taken or [])
    assert slots.take(1, alone=True) == ["0", "0"]


def test_on_the_cpu_every_process_of_a_job_takes_a_slot() -> None:
    slots = DeviceSlots([CPU], 3)
    assert slots.most == len(slots) == 3
    assert slots.take(2) == [CPU, CPU]
    assert slots.take(2) is None
    assert slots.take(1) == [CPU]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_no_device_has_more_jobs_than_slots(seed: int) -> None:
    rng = random.Random(seed)
    devices, jobs = [str(i) for i in range(rng.randint(1, 4))], rng.randint(1, 3)
    slots, held = DeviceSlots(devices, jobs), []
    for _ in range(200):
        if held and rng.random() < 0.5:
            slots.give(held.pop(rng.randrange(len(held))))
        elif (taken := slots.take(rng.randint(1, slots.most), rng.random() < 0.2)) is not None:
            held.append(taken)
        used = list(itertools.chain(*held))
        assert all(used.count(device) + slots.free[device] == jobs for device in devices)


def test_a_job_sees_its_own_devices_alone(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert DeviceSlots(["GPU-a", "1"], 1).environment(["1"])["CUDA_VISIBLE_DEVICES"] == "1"
    assert DeviceSlots(["0", "1"], 2).environment(["1", "1"])["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_DEVICE_ORDER" not in DeviceSlots(["0", "1"], 1).environment(["0"])  # the one of whoever numbered them
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    cpu = DeviceSlots([CPU], 4).environment([CPU])
    assert cpu == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(("value", "expected"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-x", ["GPU-x"])])
def test_visible_gpus_are_those_of_the_variable(value: str, expected: list[str], monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == expected


def test_a_gpu_is_absent_by_its_number_or_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_uuids", lambda: ["GPU-1a2b", "GPU-3c4d"])
    assert absent(["0", "1", "2", "GPU-3c", "GPU-5e", "MIG-6f"]) == ["2", "GPU-5e"]


@pytest.mark.parametrize("available", [True, False])
def test_where_gpus_are_not_listed_torch_says_whether_there_is_any(
    available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_uuids", list)
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    assert absent(["0", "7"]) == ([] if available else ["0", "7"])

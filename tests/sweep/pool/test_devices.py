"""Which devices a job gets: never two on one seat, and for a job alone nothing beside it."""

import itertools
import random

import pytest

from prunelab.sweep.pool.devices import CPU, DeviceSlots, visible_gpus


def test_jobs_spread_over_devices_and_no_seat_is_given_twice() -> None:
    seats = DeviceSlots(["0", "1"], 2)
    assert [seats.take(1) for _ in range(5)] == [["0"], ["1"], ["0"], ["1"], None]
    seats.give(["1"])
    assert seats.take(1) == ["1"]


def test_a_job_of_two_devices_gets_two_different_ones() -> None:
    seats = DeviceSlots(["0", "1", "2"], 1)
    assert seats.take(1) == ["0"]
    assert seats.take(2) == ["1", "2"]
    assert seats.most == 3


def test_alone_is_the_whole_device() -> None:
    seats = DeviceSlots(["0", "1"], 2)
    taken = seats.take(1)
    assert seats.take(1, alone=True) == ["1", "1"]
    assert seats.take(2, alone=True) is None
    seats.give(taken or [])
    assert seats.take(1, alone=True) == ["0", "0"]


def test_on_the_cpu_every_process_of_a_job_takes_a_seat() -> None:
    seats = DeviceSlots([CPU], 3)
    assert seats.most == len(seats) == 3
    assert seats.take(2) == [CPU, CPU]
    assert seats.take(2) is None
    assert seats.take(1) == [CPU]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_no_device_has_more_jobs_than_seats(seed: int) -> None:
    rng = random.Random(seed)
    devices, jobs = [str(i) for i in range(rng.randint(1, 4))], rng.randint(1, 3)
    seats, given = DeviceSlots(devices, jobs), []
    for _ in range(200):
        if given and rng.random() < 0.5:
            seats.give(given.pop(rng.randrange(len(given))))
        elif (taken := seats.take(rng.randint(1, seats.most), rng.random() < 0.2)) is not None:
            given.append(taken)
        used = list(itertools.chain(*given))
        assert all(used.count(device) + seats.free[device] == jobs for device in devices)


def test_a_job_sees_its_own_devices_alone(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert DeviceSlots(["GPU-a", "1"], 1).environment(["1"])["CUDA_VISIBLE_DEVICES"] == "1"
    assert DeviceSlots(["0", "1"], 2).environment(["1", "1"])["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    cpu = DeviceSlots([CPU], 4).environment([CPU])
    assert cpu == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(("value", "expected"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-x", ["GPU-x"])])
def test_visible_gpus_are_those_of_the_variable(value: str, expected: list[str], monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == expected

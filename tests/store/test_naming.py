"""Names of jobs in lists keep what differs."""

from pathlib import Path

from prunelab.store.naming import parts, short_names

A, B = Path("study/a"), Path("study/b")


def test_names_keep_what_differs_in_the_order_of_folders_and_what_is_shared_is_said_once() -> None:
    jobs = {A: ["data=shapes", "seed=0", "rate=0.2", "prune=usp"], B: ["data=shapes", "seed=1", "rate=0.2", "prune=sp"]}
    assert short_names(jobs) == (["data=shapes", "rate=0.2"], {A: "prune=usp seed=0", B: "prune=sp seed=1"})


def test_a_folder_is_parted_at_the_commas_outside_lists() -> None:
    name = "prune=usp,rate=0.2,betas=[0.9,0.99],rates={a:1,b:2}"
    assert parts(f"{name},{'x' * 140}~12345678") == parts(name)  # one that was cut off
    assert parts(name) == ["prune=usp", "rate=0.2", "betas=[0.9,0.99]", "rates={a:1,b:2}"]


def test_a_path_that_ends_in_the_name_of_another_job_stays_whole() -> None:
    path = "pretrained=_outputs_one_prune=usp,rate=0.8,seed=1,data=shapes,epochs=2"
    first, last = ["prune=sp", "rate=0.5", "seed=0", "epochs=2"], ["retrain=lr_rewind", "rerun=20260101-000000"]
    assert parts(",".join([*first, path, *last])) == [*first, path, *last]
    assert parts("data=shapes,prune=usp,rate=0.2") == ["data=shapes", "prune=usp", "rate=0.2"]  # of a subdir of yours


def test_one_job_has_its_whole_name() -> None:
    assert short_names({A: ["x=1", "y=2"]}) == ([], {A: "x=1 y=2"})
    assert short_names({}) == ([], {})


def test_names_are_those_of_folders_where_one_would_be_empty_or_two_alike() -> None:
    assert short_names({A: ["x=1"], B: ["x=1", "y=2"]}) == ([], {A: "a", B: "b"})
    assert short_names({A: ["x=1"], B: ["x=1"]}) == ([], {A: "a", B: "b"})
    assert short_names({A: []}) == ([], {A: "a"})

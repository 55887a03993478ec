"""A configuration as a job."""

from pathlib import Path

import pytest
from compose import compose_job, job_from


def test_a_job_in_a_folder_of_its_own_finds_the_paths_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()
    given = ["data=image_folder", "data.root=images", "data.cache='~/cache'", "parents=/parents", "pretrained=w.pt"]
    plain = job_from(compose_job([*given, "hydra.job.chdir=false"], tmp_path / "job"))
    cfg = compose_job([*given, "hydra.job.chdir=true"], tmp_path / "job")
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    job = job_from(cfg)
    assert (job.config["data"]["root"], job.config["data"]["cache"]) == (f"{tmp_path}/images", "/home/me/cache")
    assert (job.config["parents"], job.pretrained) == ("/parents", f"{tmp_path}/w.pt")
    with monkeypatch.context() as environment:
        environment.setenv("PRUNELAB_CACHE", "ours")
        environment.chdir(tmp_path)
        cfg = compose_job([*given[:2], "hydra.job.chdir=true"], tmp_path / "job")
        assert job_from(cfg).config["data"]["cache"] == f"{tmp_path}/ours"
    settled = [each.settled({"pretrained": "its content"}, "") for each in (plain, job)]
    assert settled[0].identity == settled[1].identity

"""What a command does without until it needs it: imports are most of its start."""

import subprocess
import sys
from pathlib import Path

import pytest

from prunelab.train import _options_first

# Composing and listing do without torch and Lightning too, which tests/test_imports.py holds for composing.
REPORTS = {"altair", "vl_convert", "jinja2"}
UNUSED = REPORTS | {"optuna", "submitit", "tensorboard", "onnx", "onnxruntime", "torch._inductor.compile_fx"}
CODE = """
import runpy, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try: runpy.run_module(module, run_name="__main__", alter_sys=True)
finally: print(*sys.modules, file=sys.stderr)
"""


def imported(cwd: Path, *command: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CODE, *command], capture_output=True, text=True, cwd=cwd, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", [["train", "--help"], ["prunelab", "ls", "."]])
def test_help_and_ls_do_without_what_takes_seconds(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "prune=usp,rate=0,seed=0").mkdir()  # a job that has not begun
    modules = imported(tmp_path, *command)
    assert not modules & (UNUSED | {"torch", "lightning", "numpy"})
    assert "prunelab" in modules


def test_a_job_imports_nothing_for_reports_searches_clusters_boards_and_exports(
    tiny_images: Path, tmp_path: Path
) -> None:
    job = [
        "train", "prune=usp", "rate=0.5", "data=image_folder", f"data.root={tiny_images}", "data.val=20",
        f"data.cache={tiny_images}/cache", "model=keras_cnn", "optim.batch_size=20", "trainer=cpu", "logger=none",
        "epochs=1",
    ]  # fmt: skip
    modules = imported(tmp_path, *job)
    assert list(tmp_path.glob("outputs/*/*/result.json"))
    assert not modules & UNUSED


def test_options_may_stand_between_overrides() -> None:
    typed = ["data=shapes", "--cfg", "job", "prune=usp", "--config-dir=mine", "-m", "rate=0.5", "--config-dir", "other"]
    options = ["--cfg", "job", "--config-dir=mine", "-m", "--config-dir", "other"]
    assert _options_first(typed) == [*options, "data=shapes", "prune=usp", "rate=0.5"]
    for wrong in (["rate=0.5", "--cfg"], ["a=1", "--", "-m"]):  # to argparse, which says what it misses
        assert _options_first(wrong) == wrong

"""Overhead of a sweep: per job of the pool, and per finished job that is skipped.

    python bench/sweep.py --jobs 200 --finished 1000

Jobs are as small as possible (keras_cnn, one step on 10 generated images), so that what remains is the framework:
a process, its imports, composing, checks, warm-up, files. The parts are timed in jobs run one after another, each in
its own process. The finished jobs are copies of one result under other names.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

TRAIN = [sys.executable, "-m", "train"]


def images(root: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        for label in range(10):
            (root / split / str(label)).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (32, 32), (25 * label, 60 * i, 10 * label))
                picture.save(root / split / str(label) / f"{i}.png")


def timed(command: list[str], cwd: Path) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="tiny jobs through the pool")
    parser.add_argument("--slots", type=int, default=2, help="jobs at a time")
    parser.add_argument("--finished", type=int, default=1000, help="jobs already finished when the sweep begins")
    parser.add_argument("--rounds", type=int, default=5, help="for the parts of a job")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PRUNELAB_CACHE"] = str(Path(scratch) / "cache")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        measure(Path(scratch), args)


def measure(root: Path, args: argparse.Namespace) -> None:
    images(root / "images")
    job = [
        "data=image_folder", f"data.root={root}/images", "data.val=10", "model=keras_cnn", "epochs=1",
        "optim.batch_size=10", "trainer=cpu", "logger=none",
    ]  # fmt: skip
    single = [*TRAIN, *job, "name=single"]
    timed(single, root)  # decodes the images
    parts: dict[str, list[float]] = {"python and torch": [], "all imports": [], "composing": [], "one job": []}
    for i in range(args.rounds):
        parts["python and torch"].append(timed([sys.executable, "-c", "import torch"], root))
        parts["all imports"].append(timed([sys.executable, "-c", "import prunelab.job.run"], root))
        parts["composing"].append(timed([*TRAIN, *job, "--cfg", "job"], root))
        parts["one job"].append(timed([*single, f"seed={i + 1}"], root))
    for name, seconds in parts.items():
        print(f"{name:20} {median(seconds):6.2f} s   ({min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)})")

    seeds = f"seed=range({args.jobs})"
    apart = "parents=outputs/pool/parents"  # where no single job has left a training that these would take
    pool = [*TRAIN, "-m", *job, seeds, "name=pool", apart, f"hydra.launcher.jobs={args.slots}"]
    whole = timed(pool, root)
    results = [json.loads(path.read_text()) for path in root.glob("outputs/pool/*/result.json")]
    training = sum(result["seconds"] for result in results)
    each = (whole * args.slots - training) / len(results)
    print(
        f"pool: {len(results)} jobs, {args.slots} at a time, in {whole:.0f} s, of which each slot trained for "
        f"{training / args.slots:.0f} s"
    )
    print(f"      overhead {each:.2f} s a job")

    study = root / "outputs" / "thousand"
    timed([*TRAIN, "-m", *job, "seed=0,1", "name=thousand"], root)
    first = next(study.glob("*seed=0*/result.json"))
    result = json.loads(first.read_text())
    for seed in range(2, args.finished):
        folder = study / first.parent.name.replace("seed=0", f"seed={seed}")
        folder.mkdir()
        overrides = [f"seed={seed}" if item.startswith("seed=") else item for item in result["overrides"]]
        key = digest(overrides)
        (folder / "result.json").write_text(json.dumps(result | {"seed": seed, "overrides": overrides, "asked": key}))
    shutil.rmtree(root / "images")  # a job that trained would fail
    seconds = timed([*TRAIN, "-m", *job, f"seed=range({args.finished})", "name=thousand"], root)
    print(f"skipped: {args.finished} finished jobs, with table and figures {seconds:.1f} s")


def digest(overrides: list[str]) -> str:
    """What such a job's result.json would hold."""
    from prunelab.job.conf import conf_dir
    from prunelab.store.identity import config_digest, overrides_digest

    return overrides_digest(overrides, config_digest([str(conf_dir())]))


if __name__ == "__main__":
    main()

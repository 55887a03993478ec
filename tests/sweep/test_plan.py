"""The plan of a sweep, whose study may hold damaged files of earlier ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunelab.store.folder import RunDir
from prunelab.sweep.plan import PlannedJob, _finished

WHOLE = Path(__file__).parents[1] / "store" / "result-0.1.0.json"


@pytest.mark.parametrize("change", [{"config": {"pretrained": 5}}, {"config": {"pretrained": "\0"}}, {"config": {}}])
def test_a_damaged_result_hides_no_finished_job(change: dict[str, Any], tmp_path: Path) -> None:
    whole = json.loads(WHOLE.read_text())
    config = whole["config"] | change["config"] if change["config"] else {}
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    shutil.copy(WHOLE, tmp_path / "b" / "result.json")
    (tmp_path / "a" / "result.json").write_text(json.dumps(whole | {"asked": "other", "config": config}))
    (tmp_path / "c" / "result.json").mkdir()
    assert list(_finished(tmp_path)) == [whole["asked"]]


def test_a_failure_without_a_reason_is_summarised(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text('{"host": "here"}')
    assert PlannedJob((), RunDir(tmp_path)).reason == "failure.json does not say why"

"""--help has a line for each option and value, and tells of one option what can be set in it."""

from pathlib import Path

import pytest

from prunelab.job.command.help import help_text
from prunelab.job.conf import conf_dir


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_option_has_a_line_that_says_what_it_is() -> None:
    lines = help_text(conf_dir(), ["--help"]).splitlines()
    for file in conf_dir().glob("*/**/*.yaml"):
        group = lines.index(f"{file.parent.relative_to(conf_dir()).as_posix()}=")
        end = next((i for i in range(group, len(lines)) if not lines[i]), len(lines))
        (line,) = (line for line in lines[group:end] if line.startswith(f"  {file.stem} "))
        assert line.split()[1:], f"{file} begins without a comment that says what it is"
    assert max(map(len, lines)) <= 80


def test_every_value_of_the_command_has_a_line() -> None:
    text = help_text(conf_dir(), ["--help"])
    assert "  rate=0.0 " in text
    assert "  name " in text
    assert "  augment.cutout=0 " in text
    assert "hydra.run" not in text


def test_an_option_tells_what_can_be_set_in_it_and_in_its_parts() -> None:
    text = help_text(conf_dir(), ["prune=rigl", "rate=0.9", "--help"])
    assert text.startswith("prune=rigl\n  RigL (Evci et al. 2020)")
    assert "prune/regrow=gradient\n" in text
    assert "  prune.pruning.pruner.regrow.every=100it" in text
    assert "seed=" not in text  # the command's own
    assert "  distill.weight=0.9 " in help_text(conf_dir(), ["+distill=logits", "--help"])
    assert "  optim.optimizer.lr=0.1 " in help_text(conf_dir(), ["optim=sgd", "-h"])


def test_options_of_the_user_are_listed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# My network\n_target_: mine.Net\nwidth: 3  # of the stem\n")
    for words in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        assert "  mine            My network" in help_text(conf_dir(), words)
        assert "  model.width=3  of the stem" in help_text(conf_dir(), [*words, "model=mine"])

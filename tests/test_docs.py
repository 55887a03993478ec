"""Links, commands and names of every page of the documentation exist."""

import importlib
import re
import tomllib
from inspect import signature
from pathlib import Path

import pytest
from compose import compose_job
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from pages import PAGES, PLACEHOLDER, ROOT, anchors, code, commands, has_placeholder, snippets

import prunelab
from prunelab.__main__ import _parser
from prunelab.job.conf import conf_dir

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
OVERRIDE = re.compile(r"[+~]?[a-z][\w/.]*=\S+")
# Arguments of Python functions, written like overrides; those of parts have "__".
ARGUMENTS = {"signed_zeros", "batches", "persistent_workers", *signature(prunelab.prune).parameters}
COMMAND_PAGE = (ROOT / "docs" / "command.md").read_text()
METHODS_PAGE = (ROOT / "docs" / "methods.md").read_text()


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]+)\)|<img src=\"([^\"]+)\"", text):
        target, _, anchor = (link[0] or link[1]).partition("#")
        if target.startswith("https://"):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_figure_is_shown_and_every_page_is_linked_from_the_readme_or_the_page_of_studies() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for figure in (ROOT / "docs" / "figures").iterdir():
        assert f"figures/{figure.name}" in text, figure
    readme, studies = PAGES[0].read_text(), ROOT / "docs" / "studies" / "README.md"
    for page in PAGES[1:]:
        linked = page.parent == studies.parent and f"]({page.name})" in studies.read_text()
        assert linked or f"]({page.relative_to(ROOT)}" in readme, page


@each_page
def test_every_training_command_composes(page: Path, tmp_path: Path) -> None:
    for words in commands(page, "python -m train"):
        if not any(word.startswith("--") for word in words):
            overrides = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
            compose_job([first_value(override) for override in overrides], tmp_path)


def first_value(override: Override) -> str:
    """An override as it was typed; of a sweep, with its first value."""
    key, _, value = (override.input_line or "").partition("=")
    if not override.is_sweep_override():
        return f"{key}={value}"
    return f"{key}=0.5" if override.is_interval_sweep() else f"{key}={next(iter(override.sweep_string_iterator()))}"


@pytest.fixture(scope="module")
def configurations() -> list[DictConfig]:
    """Some that have all keys between them, Hydra's own included."""
    jobs = [
        ["prune=set", "model=vgg11", "data=shapes", "hydra/launcher=slurm", "hydra/sweeper=optuna"],
        ["model=torchvision", "data=torchvision"],
        ["model=timm"],
        ["experiment=exercise"],
        *([f"prune={method}"] for method in ("scan", "dsss", "group_lasso", "slimming", "binary")),
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return [compose("train", job, return_hydra_config=True) for job in jobs]


@each_page
def test_every_override_inside_a_sentence_exists(page: Path, configurations: list[DictConfig]) -> None:
    groups = {str(folder.relative_to(ROOT / "conf")) for folder in (ROOT / "conf").rglob("*") if folder.is_dir()}
    for text in code(page):
        words = text.split()
        if has_placeholder(words) or not all(OVERRIDE.fullmatch(word) for word in words):
            continue
        for key, _, values in (word.lstrip("+").partition("=") for word in words):
            if key in groups:
                for value in values.strip("[]").split(","):  # a list chooses several
                    assert (ROOT / "conf" / key / f"{value}.yaml").exists(), text
            elif key not in ARGUMENTS and "__" not in key and not text.startswith("+"):
                assert any(has_key(cfg, key) for cfg in configurations), text


def has_key(cfg: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return isinstance(node, DictConfig) and name in node


@each_page
def test_every_command_on_finished_jobs_parses(page: Path) -> None:
    for words in commands(page, "python -m prunelab"):
        _parser().parse_args(words)


@each_page
def test_every_task_of_make_exists(page: Path) -> None:
    tasks = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page, "make"):
        assert {word for word in words if "=" not in word} <= set(tasks), words


@each_page
def test_every_file_exists(page: Path) -> None:
    for text in code(page):
        for word in text.split():
            if re.match(r"(src|conf|tests|bench|docs)/", word) and not PLACEHOLDER.search(word) and "*" not in word:
                assert (ROOT / word.rstrip(",;:")).exists(), word


@each_page
def test_every_name_of_the_package_exists(page: Path) -> None:
    for text in [*code(page), *snippets(page)]:
        for name in re.findall(r"\bprunelab((?:\.[A-Za-z_]\w*)+)", text):
            if name != ".sif":  # a container
                assert resolve(name[1:].split(".")) is not None, name


def resolve(parts: list[str]) -> object:
    thing: object = importlib.import_module("prunelab")
    for number, part in enumerate(parts):
        if not hasattr(thing, part):
            importlib.import_module(".".join(["prunelab", *parts[: number + 1]]))
        thing = getattr(thing, part)
    return thing


@each_page
def test_every_extra_to_install_exists(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"prunelab\[(\w+)\]", page.read_text())) <= set(extras)


OPTIONS = sorted(
    str(path.relative_to(ROOT / "conf").with_suffix(""))
    for path in (ROOT / "conf").rglob("*.yaml")
    if path.parent != ROOT / "conf"
)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_a_table_of_the_documentation(option: str) -> None:
    """Methods and their parts in methods.md, the options of the other groups in command.md."""
    group, _, name = option.rpartition("/")
    if group == "prune":
        assert f"\n| `{name}` |" in METHODS_PAGE or f"`prune={name}`" in METHODS_PAGE, option
        return
    page = METHODS_PAGE if group.startswith("prune/") else COMMAND_PAGE
    row = re.search(rf"^\| `\+?{group}=?` \| (.*) \|$", page, re.MULTILINE)
    assert row, group
    assert f"`{name}`" in row[1], option


def test_the_command_page_names_every_value_of_the_configuration() -> None:
    cfg = OmegaConf.load(ROOT / "conf" / "train.yaml")
    for name in cfg.keys() - {"defaults", "hydra"}:
        assert f"`{name}`" in COMMAND_PAGE, name

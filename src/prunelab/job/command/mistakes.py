"""Typing errors on the command line and in YAML files, each told in one line with the nearest real name."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pkgutil import iter_modules
from traceback import extract_tb
from typing import Any, NoReturn

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab.core.files.conf_dir import conf_dir
from prunelab.core.text.printable import in_lines, printable
from prunelab.core.text.unknown import nearest
from prunelab.store.failure import one_line
from prunelab.store.naming import shared, short_name


def explain(error: HydraException | OmegaConfBaseException) -> str:
    """What is wrong with a command or its YAML files, in one line, and what it may have meant."""
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return unknown_option(str(error.missing_cfg_file), error.options)
    if isinstance(error, OverrideParseException):
        problem = _line(error.__cause__ or error).partition(" expecting ")[0].partition(" See https:")[0]
        return f"{error.override}: {problem}; no spaces go beside = and commas; quote a value that has any, or brackets"
    if several := re.match(r"Ambiguous value for argument '(.+?)'", str(error)):
        a_list = "" if takes_one(several[1].partition("=")[0]) else ", or write [...] for a list"
        return f"{several[1]}: several values; add -m to run a job for each{a_list}"
    if twice := re.match(r"Multiple values for (.+?)\. ", str(error)):
        return f"{twice[1]}: it is chosen already; write {twice[1]}=..., without +"
    if inside := re.match(r"In '(.+?)': (?:Could not override '/?(.+?)'|.*full_key: ([\w.]+))", _line(error)):
        return _misplaced(*inside.groups())
    if hydra := re.match(r"(hydra/\w+) appears more than once", str(error)):
        return f"{hydra[1]}: a file does not choose it; give {hydra[1]}=... on the command line"
    if (typed := re.match(r"Could not override '(.+?)'", str(error))) and "not in struct" in str(cause):
        return unknown_key(typed[1], _root(cause))
    if unlocated := re.match(r"Error locating target '(.+?)'", str(error)):
        return _unlocated(unlocated[1], error)
    if isinstance(error, InstantiationException):
        return _unknown_argument(_line(error))
    return _line(error if cause is None or str(cause) in str(error) else f"{error} {cause}")


def takes_one(key: str) -> bool:
    """Whether it is a group of which a job has a single option."""
    return (conf_dir() / key).is_dir() and key not in ("callbacks", "logger")


@contextmanager
def naming_the_job(overrides: Sequence[str], jobs: Iterable[Sequence[str]]) -> Iterator[None]:
    """Adds to what goes wrong inside which of the `jobs` it is, by the overrides that not all have."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, HydraException, OmegaConfBaseException) as error:
        name = short_name(overrides, shared(jobs))
        text = explain(error) if isinstance(error, HydraException | OmegaConfBaseException) else str(error)
        if name and name not in text:
            text = f"{text} (job {name})"
        if text == str(error):
            raise
        raise ValueError(text) from error


def end_command(error: object) -> NoReturn:
    """Ends the command with status 1 and what was wrong with it."""
    sys.exit(in_lines(f"train: {printable(error, lines=True)}", sys.stderr))


def fail_in_silence() -> None:
    """Keeps Hydra from a line of its own, with all overrides, before it raises what a job has raised."""

    def value(job: JobReturn) -> Any:
        if job.status == JobStatus.FAILED:
            raise job._return_value
        return job._return_value

    JobReturn.return_value = JobReturn.return_value.getter(value)  # type: ignore[attr-defined, method-assign]


def unknown_option(missing: str, options: Iterable[str]) -> str:
    """That the group has no such option, and which it may be; `missing` is "group/option"."""
    group, _, name = missing.rpartition("/")
    options = sorted(options)
    near = nearest(name, options)
    return f"{group}={name}: there is none; " + (_meant(near) if near else f"expected one of {', '.join(options)}")


def unknown_key(typed: str, root: Any, problem: str = "") -> str:
    """That there is no such value in the configuration `root`, or another `problem` with it, and which it may be."""
    problem = problem or f"{typed}: there is no such value"
    names = [name for name in _names(root) if name != typed and name.startswith("hydra.") == typed.startswith("hydra.")]
    parent, _, last = typed.rpartition(".")
    ends = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = (
        [f"{parent}.{name}" if parent else name for name in get_close_matches(last, _keys(names, parent), n=3)]
        or [name for name in names if name.rpartition(".")[2] == last][:3]
        or [ends[name] for name in get_close_matches(last, [*ends], n=3, cutoff=0.7)]
        or [ends[name] for word in last.split("_") for name in get_close_matches(word, [*ends], n=1, cutoff=0.8)]
        or get_close_matches(typed, names, n=1, cutoff=0.8)
    )
    hint = _meant(near) if near else "--cfg job prints the names"
    return f"{problem}; {hint}"


def _unlocated(target: str, error: BaseException) -> str:
    """Why the `_target_` of a YAML file cannot be imported: it is not there, or an error in its file."""
    hydras = error.__cause__ or error  # names what it tried
    cause = hydras.__cause__ or hydras
    if isinstance(cause, ModuleNotFoundError) and cause.name and f"{target}.".startswith(f"{cause.name}."):
        parent, _, missing = cause.name.rpartition(".")
        if not parent:
            return f"{target}: there is no module {missing}; run the command where {missing}.py is, or install it"
        module = sys.modules[parent]
        names = {*dir(module), *(found.name for found in iter_modules(getattr(module, "__path__", [])))}
        near = nearest(missing, [name for name in names if not name.startswith("_")])
        return f"{target}: {parent} has no {missing}" + (f"; {_meant(near)}" if near else "")
    lines = [frame for frame in extract_tb(cause.__traceback__) if frame.name == "<module>"]  # of files as they load
    where = f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""
    return f"{target}: {one_line(cause)}{where}"


def _unknown_argument(text: str) -> str:
    """An argument in YAML that a class does not take; other errors of classes as they are."""
    found = re.search(r"call to target '([\w.]+)'.*unexpected keyword argument '(\w+)'", text)
    if not found:
        return text
    target, name = found.groups()
    if target.startswith("hydra_plugins."):  # which pass on whatever they get
        return f"{name}: {target.rpartition('.')[2]} does not take it; --cfg hydra prints the names"
    return not_taken(name, target, [*inspect.signature(get_object(target)).parameters])


def _misplaced(file: str, group: str | None, key: str | None) -> str:
    """What a file has that Hydra refuses: an override of a group that there is not, or an unknown value of its own."""
    if key:
        return f"{key}: there is no such value, and {file}.yaml sets it; --cfg hydra prints the names"
    if hydra := re.search(r"hydra/\w+", str(group)):
        return f"{hydra[0]}: {file}.yaml cannot choose it; give {hydra[0]}=... on the command line"
    near = nearest(str(group), [path.name for path in conf_dir().iterdir() if path.is_dir()])
    return f"override {group}: {file}.yaml finds no such group; " + (
        _meant([f"override /{name}" for name in near]) if near else "write override /GROUP: OPTION"
    )


def not_taken(name: str, target: str, known: Sequence[str]) -> str:
    """That the class `target`, which takes the `known` arguments, does not take `name`, and which it may be."""
    place, _, last = name.rpartition(".")
    near = [f"{place}.{taken}" if place else taken for taken in nearest(last, known)]
    takes = f"it takes {', '.join(known) or 'nothing'}"
    return f"{name}: {target} does not take it; {_meant(near) if near else takes}"


def _meant(names: list[str]) -> str:
    return f"did you mean {' or '.join(dict.fromkeys(names))}?"


def _names(node: Any, prefix: str = "") -> list[str]:
    """The dotted names in a configuration, the outer ones first."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return []
    keys = [key for key in map(str, node) if not key.startswith("_")]
    inner = [name for key in keys for name in _names(node._get_node(key), f"{prefix}{key}.")]
    return [f"{prefix}{key}" for key in keys] + inner


def _keys(names: list[str], parent: str) -> list[str]:
    """What the node `parent` holds."""
    return [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == parent]


def _root(error: Any) -> Any:
    node = getattr(error, "parent_node", None)
    return node._get_root() if node is not None else None


def _line(error: object) -> str:
    return " ".join(str(error).split())

"""The report of a study as one HTML file that loads nothing: tables, figures, and a list of jobs to search."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelab.report import opening, pareto, provenance
from prunelab.report.groups import Group, counted
from prunelab.report.html.figure import figure
from prunelab.report.html.jobs import compact
from prunelab.report.results import InvalidRun
from prunelab.report.tables import formats
from prunelab.report.tables.columns import KEYS, VALUES
from prunelab.report.tables.formats import Entry
from prunelab.report.tables.table import Row
from prunelab.store.result import Result

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Section:
    """Figures under a heading: Vega-Lite, as Altair's `chart.to_dict()`, by file name without its ending."""

    title: str
    notes: tuple[str, ...]  # sentences under the title
    figures: Mapping[str, dict[str, Any]]


def html(
    title: str,
    tables: Sequence[Entry],
    sections: Sequence[Section],
    results: Sequence[Result],
    unusable: Sequence[InvalidRun],
    failures: Sequence[str] = (),
) -> str:
    """The page. It links to the pictures in figures/ beside it; `failures` are figures that could not be drawn.

    Raises ValueError for a figure of a version of Vega-Lite that cannot be drawn.
    """
    groups = [group for group, _ in tables]
    return _template().render(
        title=title,
        opening=opening.sentences(tables),
        facts=provenance.facts(results, unusable),
        volumes=formats.hypervolumes(tables),
        colours=groups[0].colours.dark if groups else {},
        count=f"{counted([len(results)], 'job')} finished, {len(unusable)} excluded.",
        groups=[
            f"{formats.heading(group)}: {counted([len(group.results)], 'job')}" for group in groups if len(groups) > 1
        ],
        difference=_difference(groups),
        words=formats.WORDS,
        tables=[_table(*entry) for entry in tables],
        notes=formats.notes(tables),
        fronts=list(_fronts(results)),
        front_note=pareto.NOTE,
        sections=[(section, [figure(*named) for named in section.figures.items()]) for section in sections],
        unusable=unusable,
        failures=failures,
        jobs=compact(results),
        program=_program([spec for section in sections for spec in section.figures.values()]),
        css=_file("page.css"),
        script=_file("page.js"),
    )


def _template() -> "Template":
    """Whatever comes from files is escaped; as JSON in a script, "<" is, so that nothing can end the script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only here: `ls` and training do without

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    return pages.get_template("page.html")


def _difference(groups: Sequence[Group]) -> str:
    if len(groups) < 2:
        return ""
    traits = [trait for group in groups for trait in group.traits.items()]
    values = {key: sorted({v for k, v in traits if k == key}, key=lambda v: (len(v), v)) for key, _ in traits}
    differ = ", ".join(f"{key}={' | '.join(texts)}" for key, texts in values.items())
    return f"These jobs are not averaged together: they differ in {differ}."


def _table(group: Group, rows: list[Row]) -> tuple[str, list[str], list[list[str]], list[str]]:
    """Heading, column names, cells and cautions."""
    columns = KEYS | VALUES
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    return formats.heading(group), list(columns), cells, formats.cautions(group, rows)


def _fronts(results: Sequence[Result]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    for which, jobs in pareto.same_images(results).items():
        if table := formats.front_table(jobs):
            yield pareto.title(which), *table


def _program(specs: Iterable[Mapping[str, Any]]) -> str:
    """The JavaScript that draws the figures, for their version of Vega-Lite; "" if there are none."""
    schemas = {spec["$schema"] for spec in specs}
    if not schemas:
        return ""
    import vl_convert  # only here: if it fails, a page without figures still works

    known = vl_convert.get_vegalite_versions()
    versions = {re.sub(r".*/v(\d+\.\d+).*", r"\1", schema) for schema in schemas}
    if not versions <= set(known):
        supported = f"this vl-convert-python draws Vega-Lite {', '.join(known)}"
        raise ValueError(f"{', '.join(sorted(schemas))}: {supported}; install one that fits altair")
    bundle: str = vl_convert.javascript_bundle(vl_version=max(versions, key=known.index))  # type: ignore[call-arg]
    return bundle.replace("</script", r"<\/script")


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

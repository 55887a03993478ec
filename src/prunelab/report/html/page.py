"""How is a whole study shown in a browser? One HTML file that loads nothing: tables, figures, and jobs to look up."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from prunelab.report import pareto as front
from prunelab.report.groups import Group, counted
from prunelab.report.html import markup
from prunelab.report.html.jobs import compact
from prunelab.report.results import InvalidRun
from prunelab.report.tables import formats
from prunelab.report.tables.columns import KEYS, VALUES
from prunelab.report.tables.formats import Entry
from prunelab.store.result import Result


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
    """The page. Its links to pictures are to figures/ beside it; `failures` are figures that could not be drawn.

    Raises ValueError for a figure of a version of Vega-Lite that cannot be drawn.
    """
    anchors = {f"section-{i}": section for i, section in enumerate(sections, 1)}
    contents = {"tables": "Tables", **{key: section.title for key, section in anchors.items()}}
    contents |= {"jobs": "Jobs", "not-counted": "Not counted"}
    return Template(_file("page.html")).substitute(
        title=markup.text(title),
        css=_file("page.css"),
        contents=markup.listed(markup.link(f"#{key}", name) for key, name in contents.items()),
        overview="".join(_overview([of for of, _ in tables], results, unusable)),
        tables="".join((*map(_entry, tables), markup.notes(formats.notes(tables)), *_fronts(results))),
        sections="".join(_section(key, section) for key, section in anchors.items()),
        unusable="".join(_left_out(unusable, failures)),
        program=_program([spec for section in sections for spec in section.figures.values()]),
        data=markup.data(compact(results)),
        script=_file("page.js"),
    )


def _overview(groups: Sequence[Group], results: Sequence[Result], unusable: Sequence[InvalidRun]) -> Iterator[str]:
    yield markup.paragraph(f"{counted([len(results)], 'job')} finished, {len(unusable)} not counted.")
    yield markup.listed(markup.text(f"{formats.heading(of)}: {counted([len(of.results)], 'job')}") for of in groups)
    if len(groups) > 1:
        traits = [trait for of in groups for trait in of.traits.items()]
        values = {key: sorted({v for k, v in traits if k == key}, key=lambda v: (len(v), v)) for key, _ in traits}
        differ = ", ".join(f"{key}={' | '.join(seen)}" for key, seen in values.items())
        yield markup.paragraph(f"These jobs are not averaged together: they differ in {differ}.")


def _entry(entry: Entry) -> str:
    group, rows = entry
    columns = KEYS | VALUES
    table = markup.table(list(columns), [[cell(row) for cell in columns.values()] for row in rows], formats.WORDS)
    return f"<h3>{markup.text(formats.heading(group))}</h3>{table}{markup.cautions(formats.cautions(group, rows))}"


def _fronts(results: Sequence[Result]) -> Iterator[str]:
    for which, jobs in front.same_images(results).items():
        if found := formats.front_table(jobs):
            yield f"<h3>{markup.text(front.title(which))}</h3>{markup.table(*found, formats.WORDS)}"
            yield markup.notes([front.NOTE])


def _section(key: str, section: Section) -> str:
    figures = "".join(markup.figure(name, spec) for name, spec in section.figures.items())
    return markup.section(key, section.title, f'{markup.notes(section.notes)}<div class="figures">{figures}</div>')


def _left_out(unusable: Sequence[InvalidRun], failures: Sequence[str]) -> Iterator[str]:
    if not unusable:
        yield markup.paragraph("Every job of the study is in the tables.")
    yield markup.listed(f"<code>{markup.text(job.folder.name)}</code>: {markup.text(job.reason)}" for job in unusable)
    if failures:
        yield "<h3>Figures not drawn</h3>" + markup.listed(map(markup.text, failures))


def _program(specs: Iterable[Mapping[str, Any]]) -> str:
    """What draws figures in a browser, of the Vega-Lite that they are written for; "" if there are none."""
    schemas = {spec["$schema"] for spec in specs}
    if not schemas:
        return ""
    import vl_convert  # only here: it may be what fails, and tables need none of it

    known = vl_convert.get_vegalite_versions()
    versions = {re.sub(r".*/v(\d+\.\d+).*", r"\1", schema) for schema in schemas}
    if not versions <= set(known):
        told = f"this vl-convert-python draws Vega-Lite {', '.join(known)}"
        raise ValueError(f"{', '.join(sorted(schemas))}: {told}; install one that fits altair")
    bundle: str = vl_convert.javascript_bundle(vl_version=max(versions, key=known.index))  # type: ignore[call-arg]
    return bundle.replace("</script", r"<\/script")


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

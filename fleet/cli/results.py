"""`rkfleet results`: what the boards have found."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, connected, dig, when
from fleet.cli.output import AsJson, console, line, show, table
from fleet.cli.results_columns import defects, evaluation
from fleet.cli.results_export import Format, format_of, write_file, write_stdout
from fleet.cli.results_filter import Which, filtered, matches

if TYPE_CHECKING:
    from fleet.adapters.api_http import ApiHttp

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"Results of the boards: follow them, take them away, count them.\n\nTimes are in UTC.\n\n{EXIT_CODES}",
)
_PAGE = 500
_KNOWN = 10_000


class By(StrEnum):
    SITE = "site"
    NODE = "node"
    LINE = "line"
    CAMERA = "camera"
    PART = "part"
    LOT = "lot"
    CLASS = "class"
    MODEL = "model"
    HOUR = "hour"
    DAY = "day"


@app.command()
@filtered
def tail(
    *,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=_PAGE, help="Begin with so many that are there.")
    ] = 10,
    follow: Annotated[bool, typer.Option(help="Go on with those that come; Ctrl-C ends it.")] = True,
    which: Which,
    as_json: AsJson = False,
) -> None:
    """Results as they come, one line each; with --json, a JSON document on each line.

    $ rkfleet results tail --line smt-1 --evaluation NOT_OK

    $ rkfleet results tail --no-follow -n 100 --json | jq .result.lotId
    """
    with connected(as_json=as_json, is_patient=follow) as api:
        # Of all results: from there on the live view tells, whatever the filter.
        row = max((int(each["row"]) for each in _newest(api, {}, 1)), default=0)
        known: dict[int, None] = {}
        for each in _newest(api, which, last) if last else []:
            _say(each, known, as_json=as_json)
        if not follow:
            return
        for event in api.live(["result"], last_id=str(row)):
            if event is not None and matches(event.data["result"], which):
                _say(event.data, known, as_json=as_json)


@app.command()
@filtered
def export(
    file: Annotated[str, typer.Argument(help="Where to; - is stdout.", metavar="FILE")],
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="Else by the end of the name: .csv .parquet .jsonl")
    ] = None,
    which: Which,
    as_json: AsJson = False,
) -> None:
    """Write results to a file, in order of arrival; the file is there when it is whole.

    A cell of a CSV file that a spreadsheet would take for a formula gets an apostrophe before it. Parquet has the
    defects too, JSON lines have everything.

    $ rkfleet results export march.parquet --since 2026-03-01

    $ rkfleet results export bridges.csv --line smt-1 --class bridge

    $ rkfleet results export - --format jsonl --lot L-17 | jq .resultId
    """
    chosen = form or format_of(file)
    if chosen is None and file != "-":
        raise typer.BadParameter(
            f"no format by the name {file!r}: end it with .csv, .parquet or .jsonl, or give --format"
        )
    if file == "-" and (as_json or chosen is Format.PARQUET):
        raise typer.BadParameter("results themselves go to stdout: no --json, and no Parquet")
    with connected(as_json=as_json) as api:
        documents = map(_result, api.each("/results/export", {**which, "format": "jsonl"}))
        if file == "-":
            write_stdout(chosen or Format.JSONL, documents)
            return
        count = write_file(Path(file), chosen or Format.JSONL, _counted(documents, as_json=as_json))
        done = {"file": file, "format": (chosen or Format.JSONL).value, "results": count}
        show(done, f"{count} results in {file}", as_json=as_json)


@app.command()
@filtered
def stats(
    *,
    by: Annotated[By, typer.Option("--by", help="What to count by.")] = By.LINE,
    which: Which,
    as_json: AsJson = False,
) -> None:
    """Counts of results. With --by class a result counts once under each class that it shows.

    $ rkfleet results stats --by camera --since 1d

    $ rkfleet results stats --by class --lot L-17

    $ rkfleet results stats --by hour --line smt-1 --since 24h --json
    """
    with connected(as_json=as_json) as api:
        document = api.get("/results/stats", {**which, "by": by.value})
        rows = [
            [_key(each["key"], by), each["results"], each["ok"], each["notOk"], each["undecidable"], each["faults"],
             each["defects"], f"{100 * each['notOk'] / each['results']:.2f}" if each["results"] else ""]
            for each in document["shares"]
        ]  # fmt: skip
        columns = [by.value, "results", "ok", "not ok", "undecidable", "faults", "defects", "% not ok"]
        show(document, table(f"Results by {by.value}", columns, rows), as_json=as_json)


def _newest(api: "ApiHttp", which: Which, most: int) -> list[dict[str, Any]]:
    """Oldest of them first."""
    found = api.get("/results", {**which, "limit": most, "newestFirst": True})["results"]
    return sorted(found, key=lambda one: int(one["row"]))


def _say(stored: dict[str, Any], known: dict[int, None], *, as_json: bool) -> None:
    """Once: around a reconnect the server tells some twice. `known` are the latest rows."""
    row = int(stored["row"])
    if row in known:
        return
    known[row] = None
    if len(known) > _KNOWN:
        del known[next(iter(known))]
    if as_json:
        line(stored)
        return
    result = stored["result"]
    where = f"{dig(result, 'station', 'site')}/{dig(result, 'station', 'node')} {dig(result, 'station', 'camera')}"
    ids = [f"{name} {value}" for name, key in (("part", "partId"), ("lot", "lotId")) if (value := dig(result, key))]
    found = [f"{dig(each, 'className')} {dig(each, 'score')}" for each in defects(result)[:5]]
    fault = [f"{dig(result, 'fault', 'code')}: {dig(result, 'fault', 'text')}"] if result.get("fault") else []
    words = "  ".join([when(dig(result, "creationTime")), where, evaluation(result), *ids, ", ".join(found), *fault])
    show(None, words.rstrip().replace("\n", "\\n"), as_json=False)


def _result(line_of_export: dict[str, Any]) -> dict[str, Any]:
    """With its row, or bare."""
    inner = line_of_export.get("result")
    return inner if isinstance(inner, dict) and "row" in line_of_export else line_of_export


def _counted(documents: Iterable[dict[str, Any]], *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Shows people how many there are so far."""
    out = console(stderr=True)
    if as_json or not out.is_terminal:
        yield from documents
        return
    with out.status("0 results") as status:
        for number, document in enumerate(documents, 1):
            if number % 1000 == 0:
                status.update(f"{number} results")
            yield document


def _key(key: str, by: By) -> str:
    """Of an hour or a day: when it begins."""
    return {By.HOUR: when(key)[:16], By.DAY: key[:10]}.get(by, key)

"""`rkfleet audit`: who did what, in a chain that shows when it was changed."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, connected, when
from fleet.cli.output import AsJson, Exit, show, table

if TYPE_CHECKING:
    from fleet.adapters.api_http import ApiHttp

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"The audit: who did what, when. Each record holds the digest of the one before it.\n\n{EXIT_CODES}",
)
_PAGE = 1000


@app.command("list")
def list_records(
    *,
    last: Annotated[int, typer.Option("--last", "-n", min=1, max=100_000, help="The newest so many.")] = 50,
    after: Annotated[int, typer.Option(min=0, help="Only records above this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Records, the newest last.

    $ rkfleet audit list -n 20

    $ rkfleet audit list --after 4711 --last 100000 --json
    """
    with connected(as_json=as_json) as api:
        records = list(deque(_records(api, after), maxlen=last))
        rows = [
            [each["number"], when(each["at"]), each["actor"], each["action"], each["subject"], _detail(each["detail"])]
            for each in records
        ]
        words = table("Audit", ["number", "at", "who", "did", "to", "detail"], rows)
        show({"records": records}, words, as_json=as_json)


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Have the server go through the whole chain. Exit code 1 where it is broken.

    Whoever holds the database could write a new chain: keep the last digest elsewhere (`audit list -n 1 --json`).

    $ rkfleet audit verify
    """
    with connected(as_json=as_json) as api:
        answer = api.get("/audit/verify")
        broken = answer["broken"]
        words = f"Broken at record {broken['number']}: {broken['text']}" if broken else "The chain is whole."
        show(answer, words, as_json=as_json)
        if not answer["ok"]:
            raise typer.Exit(Exit.FAILED)


def _records(api: "ApiHttp", after: int) -> Iterator[dict[str, Any]]:
    number: int | None = after
    while number is not None:
        answer = api.get("/audit", {"after": number, "limit": _PAGE})
        yield from answer["records"]
        number = answer["next"] if answer["records"] else None


def _detail(detail: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in detail.items()
    )

"""`rkfleet db`: the database's tables."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import AsJson, Exit, fail, show
from fleet.errors import FleetError, Retryable

if TYPE_CHECKING:
    from fleet.adapters.db import Database

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The database's tables.\n\nExit codes: 1 failed, 4 not the tables of this version, 5 the database is away.",
)
Url = Annotated[str | None, typer.Option("--database", help="Its URL; default: that of the server's settings.")]
Config = Annotated[Path | None, typer.Option("--config", help="The server's settings.")]
Data = Annotated[Path | None, typer.Option("--data", help="The server's folder, with fleet.db.")]


@app.command()
def upgrade(*, database: Url = None, config: Config = None, data: Data = None, as_json: AsJson = False) -> None:
    """Bring the tables to this version. A server does it by itself for SQLite, never for PostgreSQL.

    `rkfleet db upgrade --database postgresql://fleet@db.example/fleet`
    """
    from fleet.adapters.db import upgrade as bring_up  # noqa: PLC0415  heavy: SQLAlchemy

    opened = _open(database, config, data)
    try:
        revision = bring_up(opened)
    except (FleetError, OSError) as error:
        _fail(error, as_json=as_json)
    finally:
        opened.close()
    show({"revision": revision}, f"The database is at {revision}.", as_json=as_json)


@app.command()
def check(*, database: Url = None, config: Config = None, data: Data = None, as_json: AsJson = False) -> None:
    """Whether the tables are those of this version.

    `rkfleet db check --data /var/lib/rkfleet && systemctl restart rkfleet`
    """
    from fleet.adapters.db import check as look  # noqa: PLC0415  heavy: SQLAlchemy
    from fleet.adapters.db import newest  # noqa: PLC0415

    opened = _open(database, config, data)
    try:
        look(opened)
    except (FleetError, OSError) as error:
        _fail(error, as_json=as_json)
    finally:
        opened.close()
    show({"revision": newest()}, f"The database is at {newest()}, as this version needs it.", as_json=as_json)


def _open(url: str | None, config: Path | None, data: Path | None) -> "Database":
    from fleet.adapters.db import Database  # noqa: PLC0415  heavy: SQLAlchemy
    from fleet.config import load  # noqa: PLC0415

    try:
        return Database(load(config, os.environ, {"database": url, "data": data}).database_url)
    except FleetError as error:
        raise typer.BadParameter(error.text) from error


def _fail(error: FleetError | OSError, *, as_json: bool) -> None:
    if not isinstance(error, FleetError):
        fail(str(error), as_json=as_json)
    code = Exit.UNREACHABLE if isinstance(error, Retryable) else Exit.REFUSED
    fail(error.text, code, as_json=as_json)

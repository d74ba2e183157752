"""`rkfleet`: the operator's commands, one module a group; only here do the modules meet."""

from importlib.metadata import version

import typer

from fleet.cli import demo, mirror, registry

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Put a defect-segmentation model on every board of a factory, keep it there, and prove that it works."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("rkfleet"))


app.command()(demo.demo)
app.command()(mirror.mirror)
app.add_typer(registry.app, name="registry")

"""`rkfleet`: the operator's commands, one module a group; only here do the modules meet."""

from importlib.metadata import version

import typer

from fleet.cli import (
    audit,
    cmd,
    db,
    demo,
    events,
    job,
    login,
    mirror,
    model,
    nodes,
    registry,
    results,
    rollout,
    serve,
    simulate,
    tokens,
    users,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Put a defect-segmentation model on every board of a factory, keep it there, and prove that it works."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("rkfleet"))


app.command()(serve.serve)
app.add_typer(db.app, name="db")
app.command()(demo.demo)
app.command()(simulate.simulate)
app.command()(mirror.mirror)
app.add_typer(registry.app, name="registry")
app.command(context_settings=model.PASSED_ON)(model.model)
app.command()(login.login)
app.command()(login.logout)
app.command()(login.whoami)
app.command()(login.password)
app.add_typer(nodes.app, name="nodes")
app.add_typer(rollout.app, name="rollout")
app.add_typer(results.app, name="results")
app.add_typer(cmd.app, name="cmd")
app.add_typer(job.app, name="job")
app.command()(events.events)
app.command()(events.alarms)
app.add_typer(audit.app, name="audit")
app.add_typer(users.app, name="users")
app.add_typer(tokens.app, name="tokens")

"""`python -m modelkit`, and `rkfleet model`: from pictures to a measured bundle. One module a group of commands.

Nothing heavy is imported before a command runs: help and `inspect` work without torch and OpenCV.
"""

from collections.abc import Sequence

import typer

from modelkit.cli import build, bundle, data, evaluate, inspect, network
from modelkit.cli.said import PROGRAM

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From pictures to a measured int8 bundle for Rockchip's NPUs.",
)
data.add(app)
network.add(app)
bundle.add(app)
evaluate.add(app)
inspect.add(app)
build.add(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all well, 1 it failed, with a sentence on stderr, 2 a wrong command line, 130 after Ctrl-C."""
    try:
        app(args=None if argv is None else list(argv), prog_name=PROGRAM)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0

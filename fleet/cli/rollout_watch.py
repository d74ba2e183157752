"""A rollout followed to its end: by bars that move where somebody watches, else by lines."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fleet.cli.output import Exit, console, fail, show
from fleet.cli.rollout_view import bars, brief, has_succeeded, headline, is_over

if TYPE_CHECKING:
    from fleet.adapters.api_http import ApiHttp

_CLOCKS = frozenset({"elapsedS", "lookedAt"})


def rollout_path(rollout: str, *more: str) -> str:
    from fleet.adapters.api_http import path  # noqa: PLC0415  httpx is slow to import

    return path("rollouts", rollout, *more)


def follow(api: "ApiHttp", rollout: str, *, as_json: bool) -> None:
    """Ends the command with exit code 1 where it does not finish."""
    is_watched = not as_json and console().is_terminal
    last = _follow_bars(api, rollout) if is_watched else _follow_lines(api, rollout, as_json=as_json)
    if not has_succeeded(last):
        fail(headline(last), Exit.FAILED, as_json=as_json)


def _follow_lines(api: "ApiHttp", rollout: str, *, as_json: bool) -> Mapping[str, Any]:
    said: object = None
    for document in _versions(api, rollout):
        still = {name: value for name, value in document.items() if name not in _CLOCKS} if as_json else brief(document)
        if still != said:
            show(document, brief(document), as_json=as_json)
            said = still
        last = document
    return last


def _follow_bars(api: "ApiHttp", rollout: str) -> Mapping[str, Any]:
    from rich.live import Live  # noqa: PLC0415  only for people who watch

    with Live(console=console(), auto_refresh=False) as live:
        for document in _versions(api, rollout):
            live.update(bars(document), refresh=True)
            last = document
    return last


def _versions(api: "ApiHttp", rollout: str) -> Iterator[dict[str, Any]]:
    """The rollout as it is now and after each change, up to its end."""
    document = api.get(rollout_path(rollout))
    yield document
    if is_over(document):
        return
    for event in api.live(["rollout"]):
        # Read whole rather than pieced together from events: a watcher that was cut off has missed some.
        if event is None or event.data.get("id") == rollout:
            document = api.get(rollout_path(rollout))
            yield document
            if is_over(document):
                return

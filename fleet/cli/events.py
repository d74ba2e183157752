"""`rkfleet events` and `rkfleet alarms`."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from fleet.cli.client import ago, connected, dig, now, when
from fleet.cli.output import AsJson, line, show, table

_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}
_KNOWN = 2000
"""Event ids that are remembered, so that what comes twice around a reconnect is said once."""


def events(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many, the newest.")] = 50,
    before: Annotated[str | None, typer.Option(help="Older than this: a time, or 2h (ago).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """What has happened, on boards and in rollouts, the newest last. With --follow one line each, or JSON lines.

    $ rkfleet events -n 20

    $ rkfleet events --follow --json
    """
    from fleet.cli.client import moment  # noqa: PLC0415  beside its only use

    until = moment(before, now())
    with connected(as_json=as_json) as api:
        answer = api.get("/events", {"limit": limit, "before": until})
        found = answer["events"][::-1]
        if not follow:
            words = table("Events", ["at", "severity", "board", "code", "what"], [_row(each) for each in found])
            show({**answer, "events": found}, words, as_json=as_json)
            return
        known = _say(found, {}, as_json=as_json)
        for event in api.live(["event"]):
            # None: some may have been missed.
            fresh = [event.data] if event else api.get("/events", {"limit": limit})["events"][::-1]
            known = _say(fresh, known, as_json=as_json)


def alarms(*, as_json: AsJson = False) -> None:
    """What is wrong now, the gravest first.

    $ rkfleet alarms

    $ rkfleet alarms --json | jq '.alarms | length'
    """
    with connected(as_json=as_json) as api:
        answer = api.get("/alarms")
        found = sorted(
            answer["alarms"], key=lambda each: (_SEVERITIES.get(dig(each, "severity"), 9), dig(each, "since"))
        )
        at = now()
        rows = [
            [dig(each, "severity"), each["node"], dig(each, "code"), ago(dig(each, "since"), at),
             "\n".join(f"{dig(source, 'source')}: {dig(source, 'text')}" for source in each.get("sources") or [])]
            for each in found
        ]  # fmt: skip
        words = table(f"Alarms: {len(found)}", ["severity", "board", "code", "for", "what"], rows)
        show({**answer, "alarms": found}, words, as_json=as_json)


def _say(found: Iterable[dict[str, Any]], known: dict[str, None], *, as_json: bool) -> dict[str, None]:
    """Those that are not known; returns what is known then."""
    for each in found:
        if each["eventId"] in known:
            continue
        known[each["eventId"]] = None
        if as_json:
            line(each)
        else:
            show(None, "  ".join(_row(each)).replace("\n", "\\n"), as_json=False)
    return dict.fromkeys(list(known)[-_KNOWN:])


def _row(event: dict[str, Any]) -> list[str]:
    what = f"{dig(event, 'source')} {dig(event, 'kind')}: {dig(event, 'text')}"
    return [when(dig(event, "at")), dig(event, "severity"), dig(event, "node") or "fleet", dig(event, "code"), what]

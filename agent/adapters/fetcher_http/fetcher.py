"""A file from the first mirror that has it, resumed where an earlier attempt ended.

Source: RFC 9110 sections 13.1.5 (If-Range), 14 (ranges), 10.2.3 (Retry-After).
"""

import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.fetcher_http.exchange import Reply, get
from agent.adapters.fetcher_http.options import FetchOptions, Passing, Trouble, Wrong, canceled
from agent.adapters.fetcher_http.partial import Partial, validator
from agent.adapters.fetcher_http.place import Place, parse_url
from agent.core.fetch_plan import Wanted
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class _Job:
    wanted: Wanted
    partial: Partial
    stop: threading.Event
    progress: Callable[[int], None]


class HttpFetcher:
    """Fits the port Fetcher. Any thread may call; one call at a time for one partial file."""

    def __init__(self, options: FetchOptions | None = None) -> None:
        self._options = options or FetchOptions()

    def fetch(
        self,
        wanted: Wanted,
        urls: Sequence[str],
        partial: Path,
        stop: threading.Event,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Fill `partial` from `{url}/{wanted.path}`; returns when it is whole, right by its digest, and fsynced."""
        troubles: list[Trouble] = []
        with Partial(partial, wanted, stop) as file:
            job = _Job(wanted, file, stop, progress or (lambda _: None))
            for url in urls:
                if file.whole:
                    break
                if stop.is_set():
                    raise canceled()
                try:
                    self._from_mirror(parse_url(url, wanted.path), job)
                except Trouble as trouble:
                    _log.warning("%s: %s", wanted.path, trouble.text)
                    troubles.append(trouble)
            if not file.whole:
                raise _verdict(wanted, troubles)
            file.keep()
            job.progress(file.size)

    def _from_mirror(self, place: Place, job: _Job) -> None:
        try:
            self._from_reply(place, job)
        except Wrong as wrong:
            again = job.partial.resumed
            job.partial.discard()
            if not again:
                raise
            _log.info("%s: begun anew: %s", job.wanted.path, wrong.text)
        else:
            return
        try:
            self._from_reply(place, job)
        except Wrong:
            job.partial.discard()
            raise

    def _from_reply(self, place: Place, job: _Job) -> None:
        partial = job.partial
        headers: dict[str, str] = {}
        partial.resumed = partial.size > 0
        if partial.resumed:
            headers["Range"] = f"bytes={partial.size}-"
            if (version := partial.version_at(place.shown)) is not None:
                headers["If-Range"] = version
        with get(place, headers, self._options, job.stop) as reply:
            if reply.status == 200:
                partial.begin(place.shown, validator(reply.header("ETag"), reply.header("Last-Modified")))
            else:
                _check_range(reply, job)
            _check_length(reply, job)
            _receive(reply, job)


def _check_range(reply: Reply, job: _Job) -> None:
    """Errors: Wrong for a part that does not continue what we have."""
    shown, said = reply.place.shown, reply.header("Content-Range")
    if not job.partial.resumed:
        raise Passing(f"{shown}: answers {reply.status} though no range was asked for")
    if reply.status == 416:
        raise Wrong(f"{shown}: does not have the range from {job.partial.size}")
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None or int(match[1]) != job.partial.size:
        raise Wrong(f"{shown}: sends {said[:60]!r} when asked for the range from {job.partial.size}")
    if job.wanted.bytes is not None and match[3] not in {"*", str(job.wanted.bytes)}:
        raise Wrong(f"{shown}: has {match[3]} bytes, not the {job.wanted.bytes} of the manifest")


def _check_length(reply: Reply, job: _Job) -> None:
    if reply.length is None:
        return
    total = job.partial.size + reply.length
    # A part may end before the file does; a whole answer may not.
    if job.wanted.bytes is not None and reply.status == 200 and total != job.wanted.bytes:
        raise Wrong(f"{reply.place.shown}: has {total} bytes, not the {job.wanted.bytes} of the manifest")
    if total > job.wanted.max_bytes:
        raise Wrong(f"{reply.place.shown}: has {total} bytes, the most allowed is {job.wanted.max_bytes}")


def _receive(reply: Reply, job: _Job) -> None:
    """Write the body, never more than allowed, and judge how it ended.

    Errors: Passing when the rest may still come, Wrong when what came is all there is and is not right.
    """
    partial, wanted, shown = job.partial, job.wanted, reply.place.shown
    before = partial.size
    while partial.size < wanted.max_bytes:
        chunk = reply.read(min(_CHUNK_BYTES, wanted.max_bytes - partial.size))
        if not chunk:
            break
        partial.write(chunk)
        job.progress(partial.size)
    if partial.whole:
        return
    if partial.size == wanted.max_bytes and wanted.bytes is None and reply.read(1):
        raise Wrong(f"{shown}: more than the {wanted.max_bytes} bytes allowed")
    came = partial.size - before
    framed = reply.chunked or came == reply.length
    if partial.size != wanted.max_bytes and (not framed or (reply.status == 206 and wanted.bytes is not None)):
        raise Passing(f"{shown}: closed after {partial.size} of {wanted.bytes or 'unknown'} bytes")
    raise Wrong(f"{shown}: {partial.size} bytes, not those of SHA-256 {wanted.sha256}")


def _verdict(wanted: Wanted, troubles: list[Trouble]) -> AgentError:
    """As long as one mirror may still give the file, it is worth another try."""
    said = "; ".join(trouble.text for trouble in troubles) or "no URL to download it from"
    text = f"{wanted.path}: {said}"
    delays = [trouble.delay_s for trouble in troubles if isinstance(trouble, Passing)]
    if delays:
        return Retryable(FailureCode.DOWNLOAD_FAILED, text, delay_s=min(delays))
    if any(isinstance(trouble, Wrong) for trouble in troubles):
        return Permanent(FailureCode.MODEL_DIGEST_MISMATCH, text)
    return Permanent(FailureCode.DOWNLOAD_FAILED, text)

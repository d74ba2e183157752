"""Metadata by HTTP for python-tuf: one connection a file, whose size, rate and time are bounded.

The size is bounded by the caller, which counts what is yielded; the whole by the parent, which ends this process.
"""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from agent.adapters.trust_tuf.pace import Pace

_CHUNK_BYTES = 1 << 16
_MOST_TARGET_CHARS = 2000


class BoundedFetcher(FetcherInterface):
    """No redirects and no compression: metadata lie where the settings say."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield from self._chunks(url)
        except TimeoutError as error:
            raise SlowRetrievalError(f"{_shown(url)}: nothing came in time") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise DownloadError(f"{_shown(url)}: {type(error).__name__}") from error

    def _chunks(self, url: str) -> Iterator[bytes]:
        pace, began_s, received = self._pace, time.monotonic(), 0
        parts = urlsplit(url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname or len(url) > _MOST_TARGET_CHARS:
            raise DownloadError(f"{_shown(url)}: not a URL of http or https")
        with closing(kinds[parts.scheme](parts.hostname, parts.port, timeout=pace.wait_s)) as connection:
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            headers = {"Accept-Encoding": "identity", "User-Agent": "rkfleet", "Connection": "close"}
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                if response.status != 200:
                    raise DownloadHTTPError(f"{_shown(url)}: answers {response.status}", response.status)
                while chunk := response.read1(_CHUNK_BYTES):
                    received += len(chunk)
                    yield chunk
                    took_s = time.monotonic() - began_s
                    if took_s > pace.window_s and received < pace.least_bytes_per_s * took_s:
                        raise SlowRetrievalError(f"{_shown(url)}: fewer than {pace.least_bytes_per_s:g} bytes a second")


def _shown(url: str) -> str:
    """User info and query may be secret."""
    return url.partition("?")[0].rpartition("@")[2]

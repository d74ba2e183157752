"""URLs: split once, shown without what is secret in them."""

import base64
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from agent.adapters.fetcher_http.options import Gone

_PORTS = {"http": 80, "https": 443}
_SAFE = "/:@!$&'()*+,;=~-._%"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes. `target` is path and query; `authorization` the header that the user info stands for."""

    scheme: str
    host: str
    port: int
    target: str
    authorization: str | None = None

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For logs, errors and notes on the disk: user info and query may be secret and are left out."""
        return f"{self.scheme}://{self.netloc}{self.target.partition('?')[0]}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def moved(self, location: str) -> "Place":
        """Where a redirect leads. Credentials stay with their origin; from https there is no way back to http.

        Errors: Gone.
        """
        try:
            absolute = urljoin(f"{self.scheme}://{self.netloc}{self.target}", location)
        except ValueError as error:
            raise Gone(f"{self.shown} redirects to what is no URL") from error
        place = parse_url(absolute)
        if self.scheme == "https" and place.scheme == "http":
            raise Gone(f"{self.shown} redirects from https to http: {place.shown}")
        if place.origin == self.origin and place.authorization is None:
            return replace(place, authorization=self.authorization)
        return place


def parse_url(url: str, relative_path: str | None = None) -> Place:
    """Split a URL; `relative_path`, unquoted, is put behind its path.

    Errors: Gone for what is not a http or https URL with a host.
    """
    if not url.isprintable():  # also what UTF-8 cannot write
        raise Gone("a URL with characters that none may have")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:
        raise Gone("what should be a URL cannot be read as one") from error
    if scheme not in _PORTS:
        raise Gone(f"a URL of the scheme {scheme[:20]!r}, only http and https are allowed")
    if not host or not host.isascii() or " " in host or port == 0:
        raise Gone("a URL without a proper host and port")
    path = quote(parts.path, safe=_SAFE)
    if relative_path is not None:
        path = f"{path.rstrip('/')}/{quote(relative_path)}"
    target = urlunsplit(("", "", path or "/", quote(parts.query, safe=_SAFE + "?"), ""))
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Place(scheme, host, port or _PORTS[scheme], target, authorization)

"""Downloads by HTTP, with the standard library alone."""

from agent.adapters.fetcher_http.fetcher import HttpFetcher
from agent.adapters.fetcher_http.options import FetchOptions

__all__ = ["FetchOptions", "HttpFetcher"]

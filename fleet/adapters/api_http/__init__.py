"""The server's HTTP API, as the operator's commands use it."""

from fleet.adapters.api_http.client import ApiHttp, ApiLimits, path
from fleet.adapters.api_http.problem import Rejected
from fleet.adapters.api_http.stream import Live

__all__ = ["ApiHttp", "ApiLimits", "Live", "Rejected", "path"]

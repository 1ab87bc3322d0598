"""From a path and a method to the function that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .exchange import Answer, ApiError, RecordedRequest


@dataclass(frozen=True)
class Route:
    """Tie a path, in which `*` stands for one identifier, to an answering function for each method."""

    path: str
    methods: Mapping[str, Callable[..., Answer]]

    def identifiers(self, path: str) -> list[str] | None:
        """Return what stands in the place of each `*`, or None when the path is another one."""
        wanted, found = self.path.split("/"), path.split("/")
        if len(wanted) != len(found):
            return None
        pairs = list(zip(wanted, found, strict=True))
        if any(want != got and not (want == "*" and got) for want, got in pairs):
            return None
        return [unquote(got) for want, got in pairs if want == "*"]


def dispatch(routes: Iterable[Route], request: RecordedRequest) -> Answer:
    """Answer a request by its route.

    Raises:
        ApiError: 404 for an unknown path, 405 for a method it does not have, or what the function raises.
    """
    for route in routes:
        identifiers = route.identifiers(request.endpoint)
        if identifiers is None:
            continue
        if request.method not in route.methods:
            message = f"Not allowed to {request.method} on {request.path}."
            raise ApiError(405, message, headers={"allow": ", ".join(route.methods)})
        return route.methods[request.method](request, *identifiers)
    raise ApiError(404, f"Invalid URL ({request.method} {request.path})")

"""Pages of a list by cursor, as every list of the API has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .exchange import ApiError, Json

DEFAULT_LIMIT = 20


def page(rows: Sequence[Json], query: Mapping[str, Any], *, lenient: bool = False) -> Json:
    """Return one page of rows given oldest first.

    A page after a cursor starts right behind it; one that has only `before` ends right in front of it. An
    unknown cursor is refused, or, when `lenient`, gives an empty page: the official clients' own tests send
    cursors that name nothing.

    Raises:
        ApiError: 400, an unknown cursor.
    """
    ordered = list(rows) if query.get("order") == "asc" else list(reversed(rows))
    positions = {row["id"]: index for index, row in enumerate(ordered)}
    cursors = {name: query[name] for name in ("after", "before") if name in query}
    for name, cursor in cursors.items():
        if cursor not in positions and lenient:
            return _envelope([], has_more=False)
        if cursor not in positions:
            raise ApiError(400, f"Invalid '{name}': no object with id '{cursor}' here.", param=name)
    start = positions[cursors["after"]] + 1 if "after" in cursors else 0
    stop = positions[cursors["before"]] if "before" in cursors else len(ordered)
    limit = query.get("limit", DEFAULT_LIMIT)
    window = ordered[start:stop]
    backwards = "before" in cursors and "after" not in cursors
    data = window[max(0, len(window) - limit) :] if backwards else window[:limit]
    return _envelope(data, has_more=len(data) < len(window))


def _envelope(data: list[Json], *, has_more: bool) -> Json:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }

"""Cursor pages of our own rows, as the API pages its lists."""

from __future__ import annotations

from typing import Any

from chatkit_sessions.exceptions import InvalidRequest
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet


def page(
    sessions: ChatSessionQuerySet,
    *,
    limit: int,
    order: str,
    after: str | None = None,
    before: str | None = None,
) -> tuple[list[ChatSession], bool]:
    """Return one page and whether there is more in its direction.

    Raises:
        InvalidRequest: a cursor is none of these sessions.
    """
    ascending = order == "asc"
    if after is not None:
        sessions = _beyond(sessions, "after", after, forward=ascending)
    if before is not None:
        sessions = _beyond(sessions, "before", before, forward=not ascending)
    # With only `before`, the page is the one that ends at the cursor: it is read backwards from there.
    backwards = before is not None and after is None
    rows = list(sessions.order_by("pk" if ascending != backwards else "-pk")[: limit + 1])
    found, has_more = rows[:limit], len(rows) > limit
    return (found[::-1] if backwards else found), has_more


def _beyond(sessions: ChatSessionQuerySet, name: str, cursor: str, *, forward: bool) -> ChatSessionQuerySet:
    pk: Any = sessions.named(cursor).values_list("pk", flat=True).first()
    if pk is None:
        raise InvalidRequest({name: ["is not the id of one of your sessions."]})
    return sessions.filter(pk__gt=pk) if forward else sessions.filter(pk__lt=pk)

"""Cursor pages of our own rows, as the API pages its lists."""

from __future__ import annotations

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
    found = sessions
    if after is not None:
        found = _beyond(found, _position(sessions, "after", after), forward=ascending)
    if before is not None:
        found = _beyond(found, _position(sessions, "before", before), forward=not ascending)
    # With only `before`, the page is the one that ends at the cursor: it is read backwards from there.
    backwards = before is not None and after is None
    rows = list(found.order_by("pk" if ascending != backwards else "-pk")[: limit + 1])
    listed, has_more = rows[:limit], len(rows) > limit
    return (listed[::-1] if backwards else listed), has_more


def _position(sessions: ChatSessionQuerySet, name: str, cursor: str) -> int:
    position: int | None = sessions.named(cursor).values_list("pk", flat=True).first()
    if position is None:
        raise InvalidRequest({name: ["is not the id of one of your sessions."]})
    return position


def _beyond(sessions: ChatSessionQuerySet, position: int, *, forward: bool) -> ChatSessionQuerySet:
    return sessions.filter(pk__gt=position) if forward else sessions.filter(pk__lt=position)

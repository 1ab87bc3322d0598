"""Ending sessions from the admin: ask first, then do it and say what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.models import ChatSessionQuerySet
from chatkit_sessions.services import BulkCancellation, cancel_sessions
from chatkit_sessions.services.storage import non_atomic

from .pages import page_context

# Sessions named on the page that asks; beyond that it says how many more there are.
SHOWN = 50


def ask_or_end(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    *,
    action: str,
    selected: QuerySet[Any],
    sessions: ChatSessionQuerySet,
) -> TemplateResponse | None:
    """Answer the page that asks, or, once that was confirmed, end the running sessions and report."""
    running = sessions.occupying(timezone.now())
    if "confirmed" in request.POST:
        _end(model_admin, request, sessions)
        return None
    count = running.count()
    context = {
        **page_context(model_admin, request, title=_("Cancel chat sessions")),
        "action": action,
        **_selection(request, selected),
        "running": running.select_related("user")[:SHOWN],
        "count": count,
        "more": max(count - SHOWN, 0),
    }
    page = TemplateResponse(request, "admin/chatkit_sessions/cancel_sessions.html", context)
    # Whatever the site's middleware allows: nobody is to be led to click this in a frame.
    page.headers["X-Frame-Options"] = "DENY"
    return page


def _end(model_admin: ModelAdmin[Any], request: HttpRequest, sessions: ChatSessionQuerySet) -> None:
    reason = request.POST.get("reason", "").replace("\x00", "")[:255]
    try:
        result = cancel_sessions(sessions, by=request.user, reason=reason)
    except ChatKitSessionsError as error:
        messages.error(request, str(error))
        return
    LogEntry.objects.log_actions(request.user.pk, result.sessions, CHANGE, str(_("Cancelled.")))  # type: ignore[arg-type]  # any iterable of objects
    report(request, result)


def _selection(request: HttpRequest, selected: QuerySet[Any]) -> dict[str, Any]:
    """Return the selection for the page to send again; "all, on every page" stays that, however many."""
    if request.POST.get("select_across") == "1":
        return {"select_across": True, "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:1]}
    return {"selected": [row.pk for row in selected]}


def report(request: HttpRequest, result: BulkCancellation) -> None:
    """Say truthfully how many were ended, and of how many the API has yet to be told."""
    if not result.ended:
        messages.info(request, _("None of these sessions is running, so there is nothing to cancel."))
    elif not result.due:
        text = ngettext("%(n)d session was cancelled.", "%(n)d sessions were cancelled.", result.ended)
        messages.success(request, text % {"n": result.ended})
    else:
        text = gettext(
            "The queued ones are over here as well, but the API has not been told of them yet: "
            "chatkit_reconcile tries again, and chatkit_doctor says what is in the way."
        )
        messages.warning(request, f"{result.summary}. {text}")


class CommittingMixin:
    """A list whose actions end sessions: what they do is committed as they go.

    In one transaction around the request, as ATOMIC_REQUESTS makes it, ten thousand sessions would be locked
    until its end, and nobody could be told truthfully of how many the API knows by then.
    """

    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or carry out an action."""
        return super().changelist_view(request, extra_context)  # type: ignore[misc,no-any-return]  # ModelAdmin's


class EndRunningSessionsMixin(CommittingMixin):
    """An action that ends the running sessions which the selected objects speak of."""

    # Given by the admin: the sessions that the selected objects speak of.
    sessions_of: Callable[[QuerySet[Any]], ChatSessionQuerySet]

    @admin.action(description=_("End running sessions"), permissions=["end_sessions"])
    def end_running_sessions(
        self: Any, request: HttpRequest, queryset: QuerySet[Any]
    ) -> TemplateResponse | None:
        """Ask first, then end them."""
        return ask_or_end(
            self,
            request,
            action="end_running_sessions",
            selected=queryset,
            sessions=self.sessions_of(queryset),
        )

    def has_end_sessions_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to cancel sessions."""
        return bool(request.user.has_perm("chatkit_sessions.cancel_chatsession"))

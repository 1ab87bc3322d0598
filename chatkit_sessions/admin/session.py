"""The auditor's screen: every session, read-only, with one action."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from chatkit_sessions.models import ChatSession, Status, known_slugs
from chatkit_sessions.policy import describe_policy

from .ending import CommittingMixin, ask_or_end

# Beside the statuses: value and words for one of whose end the API has yet to be told.
DUE = ("due", _("cancelled, API not told yet"))


class ShownStatusFilter(admin.SimpleListFilter):
    """Filter by what a session is at this moment, not by what its row last said."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer every status, and what is left to do of the cancelled ones."""
        return [*Status.choices, DUE]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> QuerySet[ChatSession]:
        """Narrow the list."""
        sessions: Any = queryset
        value = self.value()
        if value in Status.values:
            sessions = sessions.shown_as(value)
        return sessions.due() if value == DUE[0] else sessions  # type: ignore[no-any-return]  # ChatSessionQuerySet


class WorkflowFilter(admin.SimpleListFilter):
    """Filter by workflow; the choices come from the configuration, not from a scan of the sessions."""

    title = _("workflow")
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer the workflows of the settings and of the admin."""
        return [(slug, slug) for slug in known_slugs()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> QuerySet[ChatSession]:
        """Narrow the list."""
        return queryset.filter(workflow_slug=self.value()) if self.value() else queryset


@admin.register(ChatSession)
class ChatSessionAdmin(CommittingMixin, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Sessions as they were issued; nobody adds, changes or deletes one here."""

    list_display = (
        "created_at",
        "person",
        "status_and_error",
        "workflow_slug",
        # Narrow screens cut off from here on.
        "expires_at",
        "public_id",
    )
    list_filter = (ShownStatusFilter, WorkflowFilter)
    list_select_related = ("user",)
    list_per_page = 50
    search_fields = ("upstream_id",)  # shows the box; get_search_results says what is searched
    search_help_text = _("A session id, a reference, an identifier or a user name, spelled exactly.")
    date_hierarchy = "created_at"
    show_full_result_count = False
    actions = ("cancel_sessions",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "public_id",
                    "reference",
                    "shown_status",
                    "user",
                    "identifier",
                    "ip_address",
                    "user_agent",
                )
            },
        ),
        (_("Workflow"), {"fields": ("workflow_slug", "workflow_id", "workflow_version")}),
        (
            _("Life"),
            {
                "fields": (
                    "created_at",
                    "issued_at",
                    "expires_at",
                    "max_requests_per_1_minute",
                    "handed_out_count",
                    "last_handed_out_at",
                    "ended_at",
                    "ended_by",
                    "end_reason",
                    "cancel_requested_at",
                )
            },
        ),
        (_("Policy"), {"fields": ("policy_table",)}),
        (
            _("The API's answer"),
            {
                "fields": (
                    "upstream_id",
                    "upstream_status",
                    "upstream_request_id",
                    "attempts",
                    "latency_ms",
                    "error_code",
                    "error_message",
                    "response_text",
                )
            },
        ),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ChatSession], search_term: str
    ) -> tuple[QuerySet[ChatSession], bool]:
        """Search whole values, so that the indexes are used however many sessions there are."""
        term = search_term.strip()
        found = queryset.matching(term) if term else queryset  # type: ignore[attr-defined]  # ChatSessionQuerySet
        return found, False

    @admin.display(description=_("session"), ordering="id")
    def public_id(self, session: ChatSession) -> str:
        """Show the id that the HTTP interface uses."""
        return session.public_id

    @admin.display(description=_("person"), ordering="user")
    def person(self, session: ChatSession) -> str:
        """Show the account, or whom the API knows where there is none."""
        return str(session.user or session.identifier)

    @admin.display(description=_("status"), ordering="status")
    def shown_status(self, session: ChatSession) -> Any:
        """Show the status of this moment, and of a cancelled one whether the API has yet to be told."""
        return DUE[1] if session.is_due else session.get_shown_status_display()

    @admin.display(description=_("status"), ordering="status")
    def status_and_error(self, session: ChatSession) -> str:
        """Show the status of this moment, and of one that failed the reason."""
        status = str(self.shown_status(session))
        return f"{status}: {session.error_code}" if session.error_code else status

    @admin.display(description=_("resolved values"))
    def policy_table(self, session: ChatSession) -> SafeString:
        """Show each value with the layer that it came from."""
        rows = format_html_join(
            "", "<tr><th scope='row'>{}</th><td>{}</td><td>{}</td></tr>", describe_policy(session.policy)
        )
        heads = format_html_join(
            "", "<th scope='col'>{}</th>", ((_("value of"),), (_("value"),), (_("from"),))
        )
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", heads, rows)

    @admin.display(description=_("answer"))
    def response_text(self, session: ChatSession) -> SafeString:
        """Show the answer, which holds no secret."""
        return format_html("<pre>{}</pre>", json.dumps(session.response, indent=2, ensure_ascii=False))

    @admin.action(description=_("Cancel the selected sessions"), permissions=["cancel"])
    def cancel_sessions(
        self, request: HttpRequest, queryset: QuerySet[ChatSession]
    ) -> HttpResponseBase | None:
        """Ask first, then cancel those that are running."""
        sessions: Any = queryset
        return ask_or_end(self, request, action="cancel_sessions", selected=queryset, sessions=sessions)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission of its own that cancelling has."""
        return request.user.has_perm("chatkit_sessions.cancel_chatsession")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: sessions are issued, not typed in."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: ChatSession | None = None) -> bool:
        """Refuse: an audit is read."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ChatSession | None = None) -> bool:
        """Refuse: an audit is kept."""
        return False

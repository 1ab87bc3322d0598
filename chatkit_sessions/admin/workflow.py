"""Workflows, as the operator configures them."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Workflow

from .ending import EndRunningSessionsMixin


class OptionalJSONField(forms.JSONField):
    """JSON that is easy to read, and an empty box where there is none."""

    def prepare_value(self, value: Any) -> Any:
        """Return what stands in the box."""
        if value is None or isinstance(value, InvalidJSONInput):
            return value
        return json.dumps(value, indent=2, ensure_ascii=False)


@admin.register(Workflow)
class WorkflowAdmin(EndRunningSessionsMixin, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Everything that may differ from one workflow to another."""

    list_display = ("slug", "name", "workflow_id", "version", "is_active", "expires_after", "updated_at")
    list_filter = ("is_active",)
    search_fields = ("slug", "name", "workflow_id")
    filter_horizontal = ("groups",)
    readonly_fields = ("created_at", "updated_at")
    save_on_top = True
    formfield_overrides = {models.JSONField: {"form_class": OptionalJSONField}}
    actions = ("end_running_sessions",)
    fieldsets = (
        (None, {"fields": ("slug", "name", "workflow_id", "version", "credentials", "is_active")}),
        (_("Who may start it"), {"fields": ("groups", "allow_anonymous")}),
        (
            _("Limits"),
            {
                "description": _("Blank: as in the settings, or else the API's default."),
                "fields": (
                    "expires_after",
                    "max_requests_per_1_minute",
                    "max_active_sessions",
                    "max_sessions_per_hour",
                ),
            },
        ),
        (
            _("Features"),
            {
                "fields": (
                    "history_enabled",
                    "history_recent_threads",
                    "isolate_history",
                    "file_upload_enabled",
                    "file_upload_max_file_size",
                    "file_upload_max_files",
                    "automatic_thread_titling_enabled",
                    "tracing_enabled",
                )
            },
        ),
        (_("Data"), {"fields": ("state_variables", "ui_options", "created_at", "updated_at")}),
    )

    def sessions_of(self, queryset: QuerySet[Workflow]) -> ChatSessionQuerySet:
        """Return the sessions of the workflows."""
        return ChatSession.objects.filter(workflow_slug__in=queryset.values("slug"))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Call a switch that is not set by its name: what then holds is known, though not here."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(field, forms.NullBooleanField):
            field.widget.choices = [("unknown", _("Not set here")), ("true", _("Yes")), ("false", _("No"))]
        return field

    def get_readonly_fields(self, request: HttpRequest, obj: Workflow | None = None) -> Any:
        """Keep the slug: pages and audit rows name it."""
        return (*self.readonly_fields, "slug") if obj else self.readonly_fields

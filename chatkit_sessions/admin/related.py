"""Overrides on the pages of the users and groups that they are for, whichever admins those have."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chatkit_sessions.models import PolicyOverride
from chatkit_sessions.policy import OVERRIDE_FIELDS


class OverrideInline(admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs only
    """The overrides for the object, to read and to follow; they are changed on their own page."""

    model = PolicyOverride
    verbose_name_plural = _("ChatKit policy overrides")
    fields = ("workflow_slug", "is_blocked", *OVERRIDE_FIELDS, "valid_from", "valid_until", "reason")
    readonly_fields = fields
    show_change_link = True
    can_delete = False
    extra = 0

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave changing to the overrides' own page: saving a user says nothing of their overrides."""
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave adding to the overrides' own page."""
        return False


class UserOverrideInline(OverrideInline):
    """A user's overrides."""

    fk_name = "user"


class GroupOverrideInline(OverrideInline):
    """A group's overrides."""

    fk_name = "group"


def list_overrides_beside(site: admin.AdminSite) -> None:
    """Add the lists to the site's own admins of users and groups."""
    if isinstance(apps.get_app_config("admin"), AdminConfig):
        # Where the admin comes after this app in INSTALLED_APPS, nothing is registered yet.
        admin.autodiscover()
    for model, inline in ((get_user_model(), UserOverrideInline), (Group, GroupOverrideInline)):
        if site.is_registered(model):
            _add(site.get_model_admin(model), inline)


def _add(beside: admin.ModelAdmin[Any], inline: type[OverrideInline]) -> None:
    own = beside.get_inlines

    def get_inlines(request: HttpRequest, obj: Any) -> list[Any]:
        # Not on the page that adds somebody, who can have no override yet.
        return [*own(request, obj), *([inline] if obj is not None else [])]

    # On this instance alone: the class may be registered elsewhere too.
    beside.get_inlines = get_inlines  # type: ignore[method-assign]  # the instance's, not the class's

"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.checks import register
from django.utils.translation import gettext_lazy as _


class ChatKitSessionsConfig(AppConfig):
    """Register the models, the checks and the admin."""

    name = "chatkit_sessions"
    verbose_name = _("ChatKit sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, listen to accounts, and list overrides in the admin beside them."""
        from chatkit_sessions import receivers
        from chatkit_sessions.checks import check_settings

        register(check_settings, "chatkit_sessions")
        receivers.connect()
        if apps.is_installed("django.contrib.admin"):
            from django.contrib import admin

            from chatkit_sessions.admin.related import list_overrides_beside

            list_overrides_beside(admin.site)

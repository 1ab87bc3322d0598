"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.utils.translation import gettext_lazy as _


class ChatKitSessionsConfig(AppConfig):
    """Register the models, the checks and the admin."""

    name = "chatkit_sessions"
    verbose_name = _("ChatKit sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from chatkit_sessions.checks import check_settings

        register(check_settings, "chatkit_sessions")

"""An exception from the policy, for one user or one group."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatkit_sessions import conf, rules

from .fields import at_least_one, bounded, lifetime_errors
from .workflow import known_slugs


class PolicyOverrideQuerySet(models.QuerySet["PolicyOverride"]):
    """Overrides, by whom they are for and when."""

    def for_user(self, user: Any) -> Self:
        """Return the overrides of this account and of its groups."""
        target = Q(user=user.pk)
        if hasattr(user, "groups"):  # a user model need not have any
            target |= Q(group__in=user.groups.values("pk"))
        return self.filter(target)

    def in_force(self, now: datetime) -> Self:
        """Return those whose time window is open: from its start on, until just before its end."""
        begun = Q(valid_from__isnull=True) | Q(valid_from__lte=now)
        return self.filter(begun, Q(valid_until__isnull=True) | Q(valid_until__gt=now))

    def for_workflow(self, slug: str) -> Self:
        """Return those for this workflow and those for every workflow."""
        return self.filter(workflow_slug__in=("", slug))


class PolicyOverride(models.Model):
    """Values for one user or one group. What is null is decided by the layers below."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
    )
    group = models.ForeignKey(
        Group, verbose_name=_("group"), on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    workflow_slug = models.SlugField(
        _("workflow"),
        max_length=rules.MAX_SLUG_LENGTH,
        blank=True,
        db_index=False,
        help_text=_("The slug of one workflow. Blank: every workflow."),
    )
    is_blocked = models.BooleanField(
        _("blocked"), default=False, help_text=_("May start no session, whatever else allows it.")
    )
    expires_after = bounded(
        _("lifetime"), _("Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings).")
    )
    max_requests_per_1_minute = bounded(
        _("requests a minute"), _("Requests that one session may make in a minute, at least 1.")
    )
    max_active_sessions = bounded(
        _("active sessions"), _("Sessions that one person may have running at a time, at least 1.")
    )
    max_sessions_per_hour = bounded(
        _("sessions an hour"), _("Sessions that one person may start in an hour, at least 1.")
    )
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True, help_text=_("Blank: at once."))
    valid_until = models.DateTimeField(
        _("valid until"), null=True, blank=True, help_text=_("Blank: for good.")
    )
    reason = models.TextField(_("reason"), blank=True, help_text=_("For whoever asks later."))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = PolicyOverrideQuerySet.as_manager()

    class Meta:
        verbose_name = _("policy override")
        verbose_name_plural = _("policy overrides")
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, group__isnull=True)
                | Q(user__isnull=True, group__isnull=False),
                name="chatkit_override_one_target",
                violation_error_message=_("Choose either a user or a group: one of them, not both."),
            ),
            models.CheckConstraint(
                condition=Q(valid_from__isnull=True)
                | Q(valid_until__isnull=True)
                | Q(valid_from__lt=F("valid_until")),
                name="chatkit_override_window",
                violation_error_message=_("The time window must end after it starts."),
            ),
            *at_least_one(
                "chatkit_override",
                "expires_after",
                "max_requests_per_1_minute",
                "max_active_sessions",
                "max_sessions_per_hour",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target} / {self.workflow_slug or '*'}"

    def clean(self) -> None:
        """Check what the database cannot, or could not say of one field: settings, slugs, the window."""
        errors = lifetime_errors(self.expires_after, conf.read()[0])
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            errors["valid_until"] = _("Must be later than the start of the time window.")
        known = known_slugs()
        if self.workflow_slug and self.workflow_slug not in known:
            errors["workflow_slug"] = _("There is no workflow %(slug)r. There are: %(known)s.") % {
                "slug": self.workflow_slug,
                "known": ", ".join(known) or _("none"),
            }
        if errors:
            raise ValidationError(errors)

    def is_over(self, now: datetime) -> bool:
        """Return whether its time window has closed."""
        return self.valid_until is not None and self.valid_until <= now

    def is_to_come(self, now: datetime) -> bool:
        """Return whether its time window has yet to open."""
        return self.valid_from is not None and self.valid_from > now

    def in_words(self, now: datetime | None = None) -> str:
        """Return whom it is for, whether it counts now, and why it was made."""
        now = now or timezone.now()
        text = str(self)
        if self.is_over(now):
            text = str(_("%(override)s (over)") % {"override": text})
        elif self.is_to_come(now):
            text = str(_("%(override)s (not yet)") % {"override": text})
        return f"{text}: {self.reason}" if self.reason else text

    @property
    def target(self) -> str:
        """Return whom it is for, in words."""
        if self.group_id is not None:
            return str(_("group %(name)s") % {"name": self.group})
        return str(_("user %(name)s") % {"name": self.user})

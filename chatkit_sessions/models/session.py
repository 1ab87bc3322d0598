"""The audit row of a session."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from chatkit_sessions import bounds, rules

from .fields import ExactCharField

if TYPE_CHECKING:
    from chatkit_sessions.identity import Identity


class Status(models.TextChoices):
    """Where a session is in its life. The words have a context: Django translates some for its own use."""

    PENDING = "pending", pgettext_lazy("session", "pending")
    ACTIVE = "active", pgettext_lazy("session", "active")
    EXPIRED = "expired", pgettext_lazy("session", "expired")
    CANCELLED = "cancelled", pgettext_lazy("session", "cancelled")
    FAILED = "failed", pgettext_lazy("session", "failed")
    LOST = "lost", pgettext_lazy("session", "lost")


# The states of a session that was issued: the API gave a secret for it.
ISSUED = (Status.ACTIVE, Status.EXPIRED, Status.CANCELLED)
# What a row is once its time is over, whether or not housekeeping has written it down.
OVERDUE = {Status.ACTIVE: Status.EXPIRED, Status.PENDING: Status.LOST}


class ChatSessionQuerySet(models.QuerySet["ChatSession"]):
    """Sessions, by what they are at this moment: an active row whose time is over is expired."""

    def issued(self) -> Self:
        """Return the sessions for which a client secret was given."""
        return self.filter(status__in=ISSUED)

    def running(self, now: datetime | None = None) -> Self:
        """Return the sessions that can be used now."""
        return self.filter(status=Status.ACTIVE, expires_at__gt=now or timezone.now())

    def occupying(self, now: datetime) -> Self:
        """Return the sessions that take a place: running ones, and pending ones that may yet become so."""
        return self.filter(status__in=(Status.PENDING, Status.ACTIVE), expires_at__gt=now)

    def started_since(self, since: datetime, now: datetime) -> Self:
        """Return the sessions that count as started: neither failed nor lost."""
        lost = Q(status=Status.PENDING, expires_at__lte=now)
        return self.filter(status__in=(Status.PENDING, *ISSUED), created_at__gt=since).exclude(lost)

    def overdue(self, status: str, now: datetime) -> Self:
        """Return the rows whose time is over although they still say ``status``."""
        return self.filter(status=status, expires_at__lte=now)

    def due(self, now: datetime | None = None) -> Self:
        """Return the cancelled sessions of whose end the API has yet to be told, while that matters."""
        still = self.filter(status=Status.CANCELLED, expires_at__gt=now or timezone.now())
        return still.filter(cancel_requested_at__isnull=False)

    def shown_as(self, status: str) -> Self:
        """Return the sessions that show as ``status`` now, housekeeping or not."""
        now = timezone.now()
        if status == Status.ACTIVE:
            return self.running(now)
        if status == Status.PENDING:
            return self.filter(status=status, expires_at__gt=now)
        if status in OVERDUE.values():
            overdue = next(row for row, shown in OVERDUE.items() if shown == status)
            return self.filter(Q(status=status) | Q(status=overdue, expires_at__lte=now))
        return self.filter(status=status)

    def of(self, identity: Identity) -> Self:
        """Return a person's own sessions: the account's, or without an account the identifier's."""
        if identity.user is not None:
            return self.filter(user=identity.user)
        return self.filter(user=None, identity_key=identity.key)

    def named(self, public_id: str) -> Self:
        """Return the session with this id in the HTTP interface: the API's, else our reference."""
        named = Q(upstream_id=public_id)
        if reference := _uuid(public_id):
            named |= Q(upstream_id="", reference=reference)
        # No id is empty, and some databases refuse to look for a null character.
        return self.filter(named) if public_id and "\x00" not in public_id else self.none()

    def matching(self, term: str) -> Self:
        """Return the sessions with this id, reference, identifier or user name."""
        users = get_user_model()._default_manager.filter(**{get_user_model().USERNAME_FIELD: term})
        matching = Q(upstream_id=term) | Q(identifier=term) | Q(user__in=users.values("pk"))
        if reference := _uuid(term):
            matching |= Q(reference=reference)
        return self.filter(matching)


def _uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None


class ChatSession(models.Model):
    """A session that the API was asked for: written before the call, settled after it, without its secret."""

    reference = models.UUIDField(_("reference"), default=uuid.uuid4, unique=True, editable=False)
    upstream_id = ExactCharField(
        _("session id"), max_length=255, blank=True, help_text=_("The API's id, where it gave one.")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    identity_key = models.CharField(
        _("identity"),
        max_length=64,
        help_text=_(
            "A digest of the identifier without a workflow's part: whose limits the session counts against."
        ),
    )
    identifier = ExactCharField(
        _("identifier"),
        max_length=bounds.MAX_USER_LENGTH,
        help_text=_("What the API knows the person by."),
    )
    workflow_slug = models.SlugField(_("workflow"), max_length=rules.MAX_SLUG_LENGTH, db_index=False)
    workflow_id = models.CharField(_("workflow id"), max_length=255)
    workflow_version = models.CharField(_("workflow version"), max_length=255, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.PENDING)
    secret_digest = models.CharField(
        _("digest of the client secret"),
        max_length=64,
        blank=True,
        help_text=_("Keyed, so that the secret cannot be had from it."),
    )
    expires_at = models.DateTimeField(
        _("expires"), help_text=_("While pending: when an answer of the API is no longer waited for.")
    )
    max_requests_per_1_minute = models.PositiveIntegerField(_("requests a minute"), null=True, blank=True)
    policy = models.JSONField(
        _("policy"), default=dict, help_text=_("Each resolved value and the layer that it came from.")
    )
    response = models.JSONField(
        _("response"), default=dict, blank=True, help_text=_("What the API answered, without the secret.")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    issued_at = models.DateTimeField(_("issued"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("ended by"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    end_reason = models.CharField(_("reason of the end"), max_length=255, blank=True)
    cancel_requested_at = models.DateTimeField(
        _("cancellation due, last tried"),
        null=True,
        blank=True,
        help_text=_(
            "Set until the API has been told that the session was cancelled here. On one that is over: it "
            "was never told."
        ),
    )
    handed_out_count = models.PositiveIntegerField(
        _("times handed out"), default=0, help_text=_("How often the client secret left the server.")
    )
    last_handed_out_at = models.DateTimeField(_("last handed out"), null=True, blank=True)
    upstream_request_id = models.CharField(
        _("request id"), max_length=255, blank=True, help_text=_("Quote it to OpenAI's support.")
    )
    upstream_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_message = models.TextField(_("error message"), blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    latency_ms = models.PositiveIntegerField(_("latency in milliseconds"), null=True, blank=True)
    address_digest = models.CharField(
        _("digest of the address"),
        max_length=64,
        blank=True,
        help_text=_(
            "Keyed, and kept of visitors without an account only: whose rate the session counts against."
        ),
    )
    ip_address = models.GenericIPAddressField(_("IP address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=255, blank=True)

    objects = ChatSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("chat session")
        verbose_name_plural = _("chat sessions")
        ordering = ("-id",)
        permissions = [
            ("cancel_chatsession", _("Can cancel chat sessions")),
            ("view_transcript", _("Can read transcripts of conversations")),
        ]
        indexes = [
            models.Index(fields=["identity_key", "created_at"], name="chatkit_session_identity"),
            models.Index(fields=["address_digest", "created_at"], name="chatkit_session_address"),
            models.Index(fields=["secret_digest"], name="chatkit_session_digest"),
            models.Index(fields=["identifier"], name="chatkit_session_identifier"),
            models.Index(fields=["upstream_id"], name="chatkit_session_upstream_id"),
            models.Index(fields=["status", "expires_at"], name="chatkit_session_status"),
            models.Index(fields=["created_at"], name="chatkit_session_created"),
            models.Index(fields=["cancel_requested_at"], name="chatkit_session_due"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=Status.values),
                name="chatkit_session_status_known",
                violation_error_message=_("The status is not known."),
            ),
            models.CheckConstraint(
                condition=~Q(status__in=ISSUED) | Q(issued_at__isnull=False),
                name="chatkit_session_issued_whole",
                violation_error_message=_("An issued session has a moment of issue."),
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        """Return the id in the HTTP interface."""
        return self.upstream_id or str(self.reference)

    @property
    def shown_status(self) -> str:
        """Return the status at this moment: expired once the time is over, housekeeping or not."""
        if self.expires_at <= timezone.now():
            return OVERDUE.get(Status(self.status), self.status)
        return self.status

    @property
    def is_due(self) -> bool:
        """Return whether the API has yet to be told of the end; once the session has run out, it need not."""
        is_over = self.expires_at <= timezone.now()
        return self.status == Status.CANCELLED and self.cancel_requested_at is not None and not is_over

    def get_shown_status_display(self) -> Any:
        """Return the status at this moment, for people."""
        return Status(self.shown_status).label

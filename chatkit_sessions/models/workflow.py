"""A workflow, as an operator configures it in the admin."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from chatkit_sessions import bounds, conf, rules

from .fields import Bound, at_least_one, bounded, flag, lifetime_errors


class Issuer(models.TextChoices):
    """Who issues a workflow's sessions."""

    OPENAI = "openai", _("OpenAI's sessions API")


def known_slugs() -> list[str]:
    """Return the slugs of the workflows in the settings and in the admin."""
    settings, _problems = conf.read()
    return sorted({*settings.workflows, *Workflow.objects.values_list("slug", flat=True)})


class Workflow(models.Model):
    """Values of one workflow. What is null or blank is decided by the settings, or else by the API."""

    slug = models.SlugField(
        _("slug"),
        max_length=rules.MAX_SLUG_LENGTH,
        unique=True,
        help_text=_(
            "The name that pages use. "
            "A workflow of the same slug in the settings is overridden value by value."
        ),
    )
    name = models.CharField(_("name"), max_length=200, blank=True, help_text=_("Shown to people."))
    issuer = models.CharField(
        _("issuer"),
        max_length=16,
        blank=True,
        choices=Issuer.choices,
        help_text=_("Who issues the sessions. Blank: as in the settings, or else OpenAI's sessions API."),
    )
    credentials = models.CharField(
        _("credentials"),
        max_length=100,
        blank=True,
        help_text=_("A name in CREDENTIALS of the settings, for a workflow of another OpenAI project."),
    )
    workflow_id = models.CharField(
        _("workflow id"),
        max_length=255,
        blank=True,
        help_text=_(
            "As Agent Builder shows it, such as wf_... It must belong to the same OpenAI project as the key, "
            "or the API answers 404."
        ),
    )
    version = models.CharField(
        _("version"),
        max_length=255,
        blank=True,
        validators=[Bound("version")],
        help_text=_("Blank: the latest deployment."),
    )
    server_url = models.URLField(_("server address"), blank=True)
    domain_key = models.CharField(_("domain key"), max_length=255, blank=True)
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Off: nobody can start a session; running ones go on.")
    )
    allow_anonymous = flag(
        _("allow anonymous visitors"), _("Whether people who are not signed in may start a session.")
    )
    groups = models.ManyToManyField(
        Group,
        verbose_name=_("groups"),
        blank=True,
        help_text=_("Only members may start a session. None: everyone."),
    )
    isolate_history = flag(
        _("isolate history"), _("Keep this workflow's conversations apart from the same person's others.")
    )
    state_variables = models.JSONField(
        _("state variables"),
        null=True,
        blank=True,
        validators=[Bound("state_variables")],
        help_text=_(
            "A JSON object of at most 64 entries: keys of up to 64 characters, "
            "values strings, numbers or booleans."
        ),
    )
    tracing_enabled = flag(_("tracing"), _("API default: on."))
    automatic_thread_titling_enabled = flag(_("automatic thread titling"), _("API default: on."))
    file_upload_enabled = flag(_("file upload"), _("API default: off."))
    file_upload_max_file_size = bounded(
        _("largest file"), _("Megabytes, 1 to 512. API default: 512."), maximum=bounds.MAX_FILE_SIZE_MB
    )
    file_upload_max_files = bounded(_("most files"), _("At least 1. API default: 10."))
    history_enabled = flag(_("history"), _("API default: on."))
    history_recent_threads = bounded(_("recent threads"), _("At least 1. API default: unlimited."))
    expires_after = bounded(
        _("lifetime"),
        _("Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings). API default: 600."),
    )
    max_requests_per_1_minute = bounded(
        _("requests a minute"),
        _("Requests that one session may make in a minute, at least 1. API default: 10."),
    )
    max_active_sessions = bounded(
        _("active sessions"),
        _("Sessions that one person may have running at a time. Blank: as in the settings."),
    )
    max_sessions_per_hour = bounded(
        _("sessions an hour"), _("Sessions that one person may start in an hour. Blank: as in the settings.")
    )
    ui_options = models.JSONField(
        _("widget options"),
        null=True,
        blank=True,
        validators=[Bound("ui_options")],
        help_text=_("A JSON object of ChatKit options such as theme, startScreen or composer."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("workflow")
        verbose_name_plural = _("workflows")
        ordering = ("slug",)
        constraints = [
            models.CheckConstraint(
                condition=Q(file_upload_max_file_size__isnull=True)
                | Q(file_upload_max_file_size__range=(1, bounds.MAX_FILE_SIZE_MB)),
                name="chatkit_workflow_file_size",
                violation_error_message=_("The largest file must be from 1 to 512 megabytes."),
            ),
            *at_least_one(
                "chatkit_workflow",
                "file_upload_max_files",
                "history_recent_threads",
                "expires_after",
                "max_requests_per_1_minute",
                "max_active_sessions",
                "max_sessions_per_hour",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.slug

    def clean(self) -> None:
        """Check the values whose bounds are in the settings."""
        settings, _problems = conf.read()
        errors = lifetime_errors(self.expires_after, settings)
        if self.credentials and self.credentials not in settings.credentials:
            errors["credentials"] = _("CREDENTIALS in the settings has no %(name)r. It has: %(known)s.") % {
                "name": self.credentials,
                "known": ", ".join(settings.credentials) or _("none"),
            }
        if not self.workflow_id and "workflow_id" not in settings.workflows.get(self.slug, {}):
            errors["workflow_id"] = _(
                "Needed, for the settings have no workflow %(slug)r that names one."
            ) % {"slug": self.slug}
        if errors:
            raise ValidationError(errors)

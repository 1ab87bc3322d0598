import uuid

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import chatkit_sessions.models.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="LimitLock",
            fields=[
                (
                    "key",
                    models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="key"),
                ),
                ("touched_at", models.DateTimeField(db_index=True, verbose_name="touched")),
            ],
            options={
                "verbose_name": "limit lock",
                "verbose_name_plural": "limit locks",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="ChatSession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "reference",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, unique=True, verbose_name="reference"
                    ),
                ),
                (
                    "upstream_id",
                    chatkit_sessions.models.fields.ExactCharField(
                        blank=True,
                        help_text="The API's id, where it gave one.",
                        max_length=255,
                        verbose_name="session id",
                    ),
                ),
                (
                    "identity_key",
                    models.CharField(
                        help_text="A digest of the identifier without a workflow's part: whose limits the session counts against.",
                        max_length=64,
                        verbose_name="identity",
                    ),
                ),
                (
                    "identifier",
                    chatkit_sessions.models.fields.ExactCharField(
                        help_text="What the API knows the person by.",
                        max_length=512,
                        verbose_name="identifier",
                    ),
                ),
                ("workflow_slug", models.SlugField(db_index=False, max_length=64, verbose_name="workflow")),
                ("workflow_id", models.CharField(max_length=255, verbose_name="workflow id")),
                (
                    "workflow_version",
                    models.CharField(blank=True, max_length=255, verbose_name="workflow version"),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("active", "active"),
                            ("expired", "expired"),
                            ("cancelled", "cancelled"),
                            ("failed", "failed"),
                            ("lost", "lost"),
                        ],
                        default="pending",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                (
                    "secret_digest",
                    models.CharField(
                        blank=True,
                        help_text="Keyed, so that the secret cannot be had from it.",
                        max_length=64,
                        verbose_name="digest of the client secret",
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        help_text="While pending: when an answer of the API is no longer waited for.",
                        verbose_name="expires",
                    ),
                ),
                (
                    "max_requests_per_1_minute",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="requests a minute"),
                ),
                (
                    "policy",
                    models.JSONField(
                        default=dict,
                        help_text="Each resolved value and the layer that it came from.",
                        verbose_name="policy",
                    ),
                ),
                (
                    "response",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="What the API answered, without the secret.",
                        verbose_name="response",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("issued_at", models.DateTimeField(blank=True, null=True, verbose_name="issued")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "end_reason",
                    models.CharField(blank=True, max_length=255, verbose_name="reason of the end"),
                ),
                (
                    "cancel_requested_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Set while the API has yet to be told that the session was cancelled here.",
                        null=True,
                        verbose_name="cancellation due since",
                    ),
                ),
                (
                    "handed_out_count",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="How often the client secret left the server.",
                        verbose_name="times handed out",
                    ),
                ),
                (
                    "last_handed_out_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last handed out"),
                ),
                (
                    "upstream_request_id",
                    models.CharField(
                        blank=True,
                        help_text="Quote it to OpenAI's support.",
                        max_length=255,
                        verbose_name="request id",
                    ),
                ),
                (
                    "upstream_status",
                    models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="HTTP status"),
                ),
                ("error_code", models.CharField(blank=True, max_length=64, verbose_name="error code")),
                ("error_message", models.TextField(blank=True, verbose_name="error message")),
                ("attempts", models.PositiveSmallIntegerField(default=0, verbose_name="attempts")),
                (
                    "latency_ms",
                    models.PositiveIntegerField(
                        blank=True, null=True, verbose_name="latency in milliseconds"
                    ),
                ),
                (
                    "address_digest",
                    models.CharField(
                        blank=True,
                        help_text="Keyed, and kept of visitors without an account only: whose rate the session counts against.",
                        max_length=64,
                        verbose_name="digest of the address",
                    ),
                ),
                (
                    "ip_address",
                    models.GenericIPAddressField(blank=True, null=True, verbose_name="IP address"),
                ),
                ("user_agent", models.CharField(blank=True, max_length=255, verbose_name="user agent")),
                (
                    "ended_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="ended by",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "chat session",
                "verbose_name_plural": "chat sessions",
                "ordering": ("-id",),
                "permissions": [
                    ("cancel_chatsession", "Can cancel chat sessions"),
                    ("view_transcript", "Can read transcripts of conversations"),
                ],
                "indexes": [
                    models.Index(fields=["identity_key", "created_at"], name="chatkit_session_identity"),
                    models.Index(fields=["address_digest", "created_at"], name="chatkit_session_address"),
                    models.Index(fields=["secret_digest"], name="chatkit_session_digest"),
                    models.Index(fields=["identifier"], name="chatkit_session_identifier"),
                    models.Index(fields=["upstream_id"], name="chatkit_session_upstream_id"),
                    models.Index(fields=["status", "expires_at"], name="chatkit_session_status"),
                    models.Index(fields=["created_at"], name="chatkit_session_created"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("status__in", ["pending", "active", "expired", "cancelled", "failed", "lost"])
                        ),
                        name="chatkit_session_status_known",
                        violation_error_message="The status is not known.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ("active", "expired", "cancelled")), _negated=True),
                            ("issued_at__isnull", False),
                            _connector="OR",
                        ),
                        name="chatkit_session_issued_whole",
                        violation_error_message="An issued session has a moment of issue.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PolicyOverride",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "workflow_slug",
                    models.SlugField(
                        blank=True,
                        db_index=False,
                        help_text="The slug of one workflow. Blank: every workflow.",
                        max_length=64,
                        verbose_name="workflow",
                    ),
                ),
                (
                    "is_blocked",
                    models.BooleanField(
                        default=False,
                        help_text="May start no session, whatever else allows it.",
                        verbose_name="blocked",
                    ),
                ),
                (
                    "expires_after",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings).",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="lifetime",
                    ),
                ),
                (
                    "max_requests_per_1_minute",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Requests that one session may make in a minute, at least 1.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="requests a minute",
                    ),
                ),
                (
                    "max_active_sessions",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Sessions that one person may have running at a time, at least 1.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="active sessions",
                    ),
                ),
                (
                    "max_sessions_per_hour",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Sessions that one person may start in an hour, at least 1.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="sessions an hour",
                    ),
                ),
                (
                    "valid_from",
                    models.DateTimeField(
                        blank=True, help_text="Blank: at once.", null=True, verbose_name="valid from"
                    ),
                ),
                (
                    "valid_until",
                    models.DateTimeField(
                        blank=True, help_text="Blank: for good.", null=True, verbose_name="valid until"
                    ),
                ),
                (
                    "reason",
                    models.TextField(blank=True, help_text="For whoever asks later.", verbose_name="reason"),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="created by",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="auth.group",
                        verbose_name="group",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "policy override",
                "verbose_name_plural": "policy overrides",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("group__isnull", True), ("user__isnull", False)),
                            models.Q(("group__isnull", False), ("user__isnull", True)),
                            _connector="OR",
                        ),
                        name="chatkit_override_one_target",
                        violation_error_message="Choose either a user or a group: one of them, not both.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("valid_from__isnull", True),
                            ("valid_until__isnull", True),
                            ("valid_from__lt", models.F("valid_until")),
                            _connector="OR",
                        ),
                        name="chatkit_override_window",
                        violation_error_message="The time window must end after it starts.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_after__isnull", True), ("expires_after__gte", 1), _connector="OR"
                        ),
                        name="chatkit_override_expires_after",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_requests_per_1_minute__isnull", True),
                            ("max_requests_per_1_minute__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_override_max_requests_per_1_minute",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_active_sessions__isnull", True),
                            ("max_active_sessions__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_override_max_active_sessions",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_sessions_per_hour__isnull", True),
                            ("max_sessions_per_hour__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_override_max_sessions_per_hour",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Workflow",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "slug",
                    models.SlugField(
                        help_text="The name that pages use. A workflow of the same slug in the settings is overridden value by value.",
                        max_length=64,
                        unique=True,
                        verbose_name="slug",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        blank=True, help_text="Shown to people.", max_length=200, verbose_name="name"
                    ),
                ),
                (
                    "issuer",
                    models.CharField(
                        blank=True,
                        choices=[("openai", "OpenAI's sessions API")],
                        help_text="Who issues the sessions. Blank: as in the settings, or else OpenAI's sessions API.",
                        max_length=16,
                        verbose_name="issuer",
                    ),
                ),
                (
                    "credentials",
                    models.CharField(
                        blank=True,
                        help_text="A name in CREDENTIALS of the settings, for a workflow of another OpenAI project.",
                        max_length=100,
                        verbose_name="credentials",
                    ),
                ),
                (
                    "workflow_id",
                    models.CharField(
                        blank=True,
                        help_text="As Agent Builder shows it, such as wf_... It must belong to the same OpenAI project as the key, or the API answers 404.",
                        max_length=255,
                        verbose_name="workflow id",
                    ),
                ),
                (
                    "version",
                    models.CharField(
                        blank=True,
                        help_text="Blank: the latest deployment.",
                        max_length=255,
                        validators=[chatkit_sessions.models.fields.Bound("version")],
                        verbose_name="version",
                    ),
                ),
                ("server_url", models.URLField(blank=True, verbose_name="server address")),
                ("domain_key", models.CharField(blank=True, max_length=255, verbose_name="domain key")),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: nobody can start a session; running ones go on.",
                        verbose_name="active",
                    ),
                ),
                (
                    "allow_anonymous",
                    models.BooleanField(
                        blank=True,
                        help_text="Whether people who are not signed in may start a session.",
                        null=True,
                        verbose_name="allow anonymous visitors",
                    ),
                ),
                (
                    "isolate_history",
                    models.BooleanField(
                        blank=True,
                        help_text="Keep this workflow's conversations apart from the same person's others.",
                        null=True,
                        verbose_name="isolate history",
                    ),
                ),
                (
                    "state_variables",
                    models.JSONField(
                        blank=True,
                        help_text="A JSON object of at most 64 entries: keys of up to 64 characters, values strings, numbers or booleans.",
                        null=True,
                        validators=[chatkit_sessions.models.fields.Bound("state_variables")],
                        verbose_name="state variables",
                    ),
                ),
                (
                    "tracing_enabled",
                    models.BooleanField(
                        blank=True, help_text="API default: on.", null=True, verbose_name="tracing"
                    ),
                ),
                (
                    "automatic_thread_titling_enabled",
                    models.BooleanField(
                        blank=True,
                        help_text="API default: on.",
                        null=True,
                        verbose_name="automatic thread titling",
                    ),
                ),
                (
                    "file_upload_enabled",
                    models.BooleanField(
                        blank=True, help_text="API default: off.", null=True, verbose_name="file upload"
                    ),
                ),
                (
                    "file_upload_max_file_size",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Megabytes, 1 to 512. API default: 512.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(512),
                        ],
                        verbose_name="largest file",
                    ),
                ),
                (
                    "file_upload_max_files",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="At least 1. API default: 10.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="most files",
                    ),
                ),
                (
                    "history_enabled",
                    models.BooleanField(
                        blank=True, help_text="API default: on.", null=True, verbose_name="history"
                    ),
                ),
                (
                    "history_recent_threads",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="At least 1. API default: unlimited.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="recent threads",
                    ),
                ),
                (
                    "expires_after",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings). API default: 600.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="lifetime",
                    ),
                ),
                (
                    "max_requests_per_1_minute",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Requests that one session may make in a minute, at least 1. API default: 10.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="requests a minute",
                    ),
                ),
                (
                    "max_active_sessions",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Sessions that one person may have running at a time. Blank: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="active sessions",
                    ),
                ),
                (
                    "max_sessions_per_hour",
                    chatkit_sessions.models.fields.CountField(
                        blank=True,
                        help_text="Sessions that one person may start in an hour. Blank: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ],
                        verbose_name="sessions an hour",
                    ),
                ),
                (
                    "ui_options",
                    models.JSONField(
                        blank=True,
                        help_text="A JSON object of ChatKit options such as theme, startScreen or composer.",
                        null=True,
                        validators=[chatkit_sessions.models.fields.Bound("ui_options")],
                        verbose_name="widget options",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Only members may start a session. None: everyone.",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
            ],
            options={
                "verbose_name": "workflow",
                "verbose_name_plural": "workflows",
                "ordering": ("slug",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("file_upload_max_file_size__isnull", True),
                            ("file_upload_max_file_size__range", (1, 512)),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_file_size",
                        violation_error_message="The largest file must be from 1 to 512 megabytes.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("file_upload_max_files__isnull", True),
                            ("file_upload_max_files__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_file_upload_max_files",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("history_recent_threads__isnull", True),
                            ("history_recent_threads__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_history_recent_threads",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_after__isnull", True), ("expires_after__gte", 1), _connector="OR"
                        ),
                        name="chatkit_workflow_expires_after",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_requests_per_1_minute__isnull", True),
                            ("max_requests_per_1_minute__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_max_requests_per_1_minute",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_active_sessions__isnull", True),
                            ("max_active_sessions__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_max_active_sessions",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_sessions_per_hour__isnull", True),
                            ("max_sessions_per_hour__gte", 1),
                            _connector="OR",
                        ),
                        name="chatkit_workflow_max_sessions_per_hour",
                        violation_error_message="Must be at least 1, or blank.",
                    ),
                ],
            },
        ),
    ]

"""What comes in from a browser, and the session object that goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from chatkit_sessions.models import ChatSession
from chatkit_sessions.policy import DEFAULTS, as_configuration
from chatkit_sessions.secret import Secret
from chatkit_sessions.workflows import WorkflowConfig


class WorkflowNameField(serializers.CharField):
    """A slug or workflow id, bare or as the public starter projects send it: ``{"id": ...}``."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Take the name out of the object, and hold it to all that a bare one is held to."""
        if isinstance(data, Mapping):
            if "id" not in data:
                raise serializers.ValidationError(_("An object must have an 'id'."))
            data = data["id"]
        return super().run_validation(data)


class SecretField(serializers.CharField):
    """A client secret, which no traceback shows."""

    def to_internal_value(self, data: Any) -> Any:
        """Hide the value from here on."""
        return Secret(super().to_internal_value(data))


class IssueSerializer(serializers.Serializer[Any]):
    """The body of POST sessions/. Whatever else it holds is ignored: a browser decides nothing else."""

    workflow = WorkflowNameField(required=False, allow_null=True, max_length=255)
    current_client_secret = SecretField(required=False, allow_null=True, allow_blank=True, max_length=4096)
    state_variables = serializers.DictField(required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> Any:
        """Read ``currentClientSecret`` as well."""
        if (
            isinstance(data, Mapping)
            and "current_client_secret" not in data
            and "currentClientSecret" in data
        ):
            data = {**data, "current_client_secret": data["currentClientSecret"]}
        return super().to_internal_value(data)


class PageSerializer(serializers.Serializer[Any]):
    """The query of a list."""

    limit = serializers.IntegerField(required=False, min_value=1, max_value=100, default=20)
    order = serializers.ChoiceField(choices=("asc", "desc"), required=False, default="desc")
    after = serializers.CharField(required=False, max_length=255)
    before = serializers.CharField(required=False, max_length=255)


class ThreadSerializer(serializers.Serializer[Any]):
    """The query of one thread."""

    workflow = serializers.CharField(required=False, max_length=255)


class ThreadPageSerializer(ThreadSerializer, PageSerializer):
    """The query of a list of threads or of one's items."""


def session_object(session: ChatSession, *, client_secret: str = "", reused: bool = False) -> dict[str, Any]:
    """Return a session in the API's own shape, from the answer where it gave one, else from the policy."""
    policy = {**DEFAULTS, **{name: item["value"] for name, item in session.policy.items()}}
    answered = session.response
    workflow = answered.get("workflow", {})
    tracing = workflow.get("tracing", {}).get("enabled", policy["tracing_enabled"])
    return {
        "id": session.public_id,
        "object": "chatkit.session",
        "status": session.shown_status,
        "client_secret": client_secret,
        "expires_at": int(session.expires_at.timestamp()),
        "user": session.identifier,
        "workflow": {
            "id": session.workflow_id,
            "version": workflow.get("version", session.workflow_version or None),
            "state_variables": None,
            "tracing": {"enabled": tracing},
        },
        "rate_limits": {"max_requests_per_1_minute": session.max_requests_per_1_minute},
        "max_requests_per_1_minute": session.max_requests_per_1_minute,
        "chatkit_configuration": _merged(as_configuration(policy), answered.get("chatkit_configuration", {})),
        "created_at": int(session.created_at.timestamp()),
        "workflow_slug": session.workflow_slug,
        "reused": reused,
    }


def workflow_object(workflow: WorkflowConfig) -> dict[str, Any]:
    """Return a workflow that the caller may start, with its widget options."""
    return {
        "object": "chatkit.workflow",
        "id": workflow.slug,
        "slug": workflow.slug,
        "name": workflow.name,
        "ui_options": workflow.get("ui_options") or {},
    }


def list_object(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page in the API's own shape."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def _merged(base: dict[str, dict[str, Any]], answered: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {section: {**leaves, **answered.get(section, {})} for section, leaves in base.items()}

"""Sessions issued by OpenAI's sessions API."""

from __future__ import annotations

import contextlib
from typing import Any

from chatkit_sessions import bounds
from chatkit_sessions.client import ChatKitClient, ChatKitSession, NotFoundError
from chatkit_sessions.conf import Settings
from chatkit_sessions.policy import SessionPolicy, as_configuration


class OpenAIIssuer:
    """Talk to the API with the credentials of one workflow."""

    def __init__(self, settings: Settings, credentials: str) -> None:
        """Prepare the client.

        Raises:
            NotConfigured: there is no key, or CREDENTIALS has no such name.
        """
        self._max_expires_after = settings.max_expires_after
        project = settings.credentials_for(credentials)
        self.base_url = project.base_url
        self.client = ChatKitClient(
            project.reveal_key(),
            base_url=project.base_url,
            organization=project.organization,
            project=project.project,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            deadline=settings.deadline,
            max_expires_after=settings.max_expires_after,
        )

    def prepare(
        self, *, identifier: str, policy: SessionPolicy, state_variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the parameters of a session; what no layer of the policy sets is left to the API.

        Raises:
            ParameterError: a value is out of its bounds.
        """
        values = policy.set_values()
        workflow: dict[str, Any] = {"id": policy["workflow_id"]}
        if values.get("version"):
            workflow["version"] = values["version"]
        if state_variables:
            workflow["state_variables"] = state_variables
        if "tracing_enabled" in values:
            workflow["tracing"] = {"enabled": values["tracing_enabled"]}
        parameters: dict[str, Any] = {"user": identifier, "workflow": workflow}
        if configuration := as_configuration(values):
            parameters["chatkit_configuration"] = configuration
        if "expires_after" in values:
            parameters["expires_after"] = {"anchor": "created_at", "seconds": values["expires_after"]}
        if "max_requests_per_1_minute" in values:
            parameters["rate_limits"] = {"max_requests_per_1_minute": values["max_requests_per_1_minute"]}
        bounds.check_session(parameters, max_expires_after=self._max_expires_after)
        return parameters

    def issue(self, parameters: dict[str, Any]) -> ChatKitSession:
        """Create a session.

        Raises:
            APIError: the API did not create it, or its answer cannot be used.
        """
        return self.client.create_session(**parameters)

    def cancel(self, upstream_id: str) -> None:
        """End a session at the API; one that is unknown there is already gone.

        Raises:
            APIError: the API did not confirm it.
        """
        with contextlib.suppress(NotFoundError):
            self.client.cancel_session(upstream_id)

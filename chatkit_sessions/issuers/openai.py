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
        self._settings = settings
        self._project = settings.credentials_for(credentials)
        self._api_key = self._project.reveal_key()
        self.base_url = self._project.base_url

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
        bounds.check_session(parameters, max_expires_after=self._settings.max_expires_after)
        return parameters

    def issue(self, parameters: dict[str, Any], *, seconds: float) -> ChatKitSession:
        """Create a session, in at most so many seconds where DEADLINE allows more.

        Raises:
            APIError: the API did not create it, or its answer cannot be used.
        """
        return self.client(seconds).create_session(**parameters)

    def cancel(self, upstream_id: str, *, seconds: float) -> None:
        """End a session at the API, likewise; one that is unknown there is already gone.

        Raises:
            APIError: the API did not confirm it.
        """
        with contextlib.suppress(NotFoundError):
            self.client(seconds).cancel_session(upstream_id)

    def client(self, seconds: float) -> ChatKitClient:
        """Return a client each of whose calls takes at most so many seconds, where DEADLINE allows more."""
        return ChatKitClient(
            self._api_key,
            base_url=self._project.base_url,
            organization=self._project.organization,
            project=self._project.project,
            timeout=self._settings.timeout,
            max_retries=self._settings.max_retries,
            deadline=min(self._settings.deadline, seconds),
            max_expires_after=self._settings.max_expires_after,
        )

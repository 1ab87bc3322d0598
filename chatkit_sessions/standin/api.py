"""The six published endpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from . import validation
from .exchange import Answer, ApiError, Json, RecordedRequest, json_answer
from .routing import Route
from .state import State

BETA = "chatkit_beta=v1"
KEYS_PAGE = "https://platform.openai.com/account/api-keys"


class Api:
    """Answer the sessions and threads endpoints as their description says."""

    def __init__(
        self, state: State, *, api_keys: Collection[str] | None, workflows: Collection[str] | None
    ) -> None:
        self._state = state
        self._api_keys = api_keys
        self._workflows = workflows

    def routes(self) -> list[Route]:
        """Return the paths and methods answered here."""
        answers = self._answers
        return [
            Route("/chatkit/sessions", {"POST": answers(self._create)}),
            Route("/chatkit/sessions/*/cancel", {"POST": answers(self._cancel)}),
            Route("/chatkit/threads", {"GET": answers(self._list)}),
            Route("/chatkit/threads/*", {"GET": answers(self._retrieve), "DELETE": answers(self._delete)}),
            Route("/chatkit/threads/*/items", {"GET": answers(self._list_items)}),
        ]

    def _answers(self, action: Callable[..., Json]) -> Callable[..., Answer]:
        def answer(request: RecordedRequest, *ids: str) -> Answer:
            self._admit(request)
            return json_answer(200, action(request, *ids))

        return answer

    def _admit(self, request: RecordedRequest) -> None:
        key = request.bearer
        if not key:
            message = "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'."
            raise ApiError(401, message, code="invalid_api_key")
        if self._api_keys is not None and key not in self._api_keys:
            message = f"Incorrect API key provided: {_masked(key)}. You can find your API key at {KEYS_PAGE}."
            raise ApiError(401, message, code="invalid_api_key")
        if BETA not in {part.strip() for part in request.headers.get("openai-beta", "").split(",")}:
            message = f"You must provide the header 'OpenAI-Beta: {BETA}' to access the ChatKit API."
            raise ApiError(400, message, code="invalid_beta")

    def _create(self, request: RecordedRequest) -> Json:
        body = checked_body(request, validation.CREATE_SESSION)
        workflow = body["workflow"]["id"]
        if self._workflows is not None and workflow not in self._workflows:
            raise ApiError(404, f"Workflow with id '{workflow}' not found.")
        return self._state.create_session(body)

    def _cancel(self, request: RecordedRequest, session_id: str) -> Json:
        return self._state.cancel_session(session_id)

    def _list(self, request: RecordedRequest) -> Json:
        return self._state.list_threads(validation.check_query(request.query, validation.LIST_THREADS))

    def _retrieve(self, request: RecordedRequest, thread_id: str) -> Json:
        return self._state.retrieve_thread(thread_id)

    def _delete(self, request: RecordedRequest, thread_id: str) -> Json:
        return self._state.delete_thread(thread_id)

    def _list_items(self, request: RecordedRequest, thread_id: str) -> Json:
        query = validation.check_query(request.query, validation.LIST_ITEMS)
        return self._state.list_items(thread_id, query)


def checked_body(request: RecordedRequest, rule: validation.Rule) -> Json:
    """Return the decoded and validated body.

    Raises:
        ApiError: 400.
    """
    try:
        body: Any = request.json
    except (ValueError, RecursionError) as error:
        message = "We could not parse the JSON body of your request."
        raise ApiError(400, message, code="invalid_json") from error
    validation.check(body, rule)
    return dict(body)


def _masked(key: str) -> str:
    # The real API echoes both ends of a wrong key, which is why messages need scrubbing before they are kept.
    return f"{key[:6]}****{key[-3:]}" if len(key) > 9 else "****"

"""A client of the six ChatKit endpoints. It knows nothing of Django."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from chatkit_sessions import bounds
from chatkit_sessions.bounds import ParameterError
from chatkit_sessions.secret import Secret

from .errors import APIResponseValidationError, strip_frames
from .parameters import (
    ChatKitConfigurationParam,
    ExpiresAfterParam,
    Order,
    RateLimitsParam,
    WorkflowParam,
)
from .resources import (
    ChatKitSession,
    ChatKitThread,
    Page,
    Resource,
    ThreadDeleted,
    ThreadItem,
    parse_item,
)
from .transport import Transport

T = TypeVar("T")
A = TypeVar("A", bound=Resource | Page[Any])


class ChatKitClient:
    """Call OpenAI's ChatKit API.

    Args:
        api_key: sent as bearer token.
        base_url: with the version, such as ``https://api.openai.com/v1``.
        organization, project: sent as headers where given.
        timeout: seconds to connect, and seconds to wait for the answer.
        max_retries: further attempts after a failure that allows one.
        deadline: seconds that one call may take in all, retries and waits included.
        session: a ``requests.Session`` of your own; by default one is shared in this process.
        max_expires_after: seconds; the API's published bound on a session's lifetime.

    The constructor raises ``ParameterError`` for a key or a name that cannot stand in a header. Every method
    raises it before anything is sent when an argument is out of its published bounds, and ``APIError`` when
    the API does not do what it was asked.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str,
        organization: str | None = None,
        project: str | None = None,
        timeout: tuple[float, float] = (3.05, 10),
        max_retries: int = 2,
        deadline: float = 15,
        session: requests.Session | None = None,
        max_expires_after: int = bounds.MAX_EXPIRES_AFTER_SECONDS,
    ) -> None:
        # Hidden at once: debug pages show the arguments of the functions on the way to an error.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        self._transport = Transport(
            api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            timeout=timeout,
            max_retries=max_retries,
            deadline=deadline,
            session=session,
        )
        self._max_expires_after = max_expires_after

    def create_session(
        self,
        *,
        user: str,
        workflow: WorkflowParam,
        chatkit_configuration: ChatKitConfigurationParam | None = None,
        expires_after: ExpiresAfterParam | None = None,
        rate_limits: RateLimitsParam | None = None,
    ) -> ChatKitSession:
        """Create a session and return it with its client secret."""
        body = {
            "user": user,
            "workflow": workflow,
            **_given(
                chatkit_configuration=chatkit_configuration,
                expires_after=expires_after,
                rate_limits=rate_limits,
            ),
        }
        bounds.check_session(body, max_expires_after=self._max_expires_after)
        return self._call("POST", "/chatkit/sessions", _new_session, body=_as_dicts(body))

    def cancel_session(self, session_id: str) -> ChatKitSession:
        """Cancel a session, so that its client secret is refused from now on."""
        return self._call(
            "POST",
            f"/chatkit/sessions/{_segment(session_id)}/cancel",
            ChatKitSession.parse,
        )

    def list_threads(
        self,
        *,
        user: str,
        limit: int | None = None,
        order: Order | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> Page[ChatKitThread]:
        """Return one page of a user's threads, 20 where no limit is given, newest first.

        ``user`` is required here although not by the API, which answers every user's threads without it.
        """
        bounds.USER("user", user)
        query = {"user": user, **_query(limit=limit, order=order, after=after, before=before)}
        return self._page("/chatkit/threads", ChatKitThread.parse, query)

    def iter_threads(
        self, *, user: str, limit: int | None = None, order: Order | None = None
    ) -> Iterator[ChatKitThread]:
        """Yield all of a user's threads, ``limit`` a page."""
        yield from _all_pages(
            lambda after: self.list_threads(user=user, limit=limit, order=order, after=after)
        )

    def retrieve_thread(self, thread_id: str) -> ChatKitThread:
        """Return a thread of whichever user."""
        return self._call("GET", f"/chatkit/threads/{_segment(thread_id)}", ChatKitThread.parse)

    def delete_thread(self, thread_id: str) -> ThreadDeleted:
        """Delete a thread with its items and stored attachments."""
        return self._call("DELETE", f"/chatkit/threads/{_segment(thread_id)}", ThreadDeleted.parse)

    def list_thread_items(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        order: Order | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> Page[ThreadItem]:
        """Return one page of a thread's items, 20 where no limit is given, newest first."""
        query = _query(limit=limit, order=order, after=after, before=before)
        return self._page(f"/chatkit/threads/{_segment(thread_id)}/items", parse_item, query)

    def iter_thread_items(
        self, thread_id: str, *, limit: int | None = None, order: Order | None = None
    ) -> Iterator[ThreadItem]:
        """Yield all items of a thread, ``limit`` a page."""
        yield from _all_pages(
            lambda after: self.list_thread_items(thread_id, limit=limit, order=order, after=after)
        )

    def _page(self, path: str, parse_one: Callable[[Any], T], query: Mapping[str, Any]) -> Page[T]:
        def parse(data: Any) -> Page[T]:
            return Page.parse(data, parse_one)

        return self._call("GET", path, parse, params=query)

    def _call(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], A],
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> A:
        answer = self._transport.send(method, path, params=params, body=body)
        try:
            parsed = parse(answer.data)
        except APIResponseValidationError as error:
            error.status_code, error.request_id = answer.status_code, answer.request_id
            error.attempts = answer.attempts
            strip_frames(error)
            raise
        except BaseException as error:  # whatever it is, the answer is in its frames
            strip_frames(error)
            raise
        return dataclasses.replace(parsed, request_id=answer.request_id, attempts=answer.attempts)


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _query(**arguments: Any) -> dict[str, Any]:
    query = _given(**arguments)
    for name, value in query.items():
        bounds.LIST_CHECKS[name](name, value)
    return query


def _as_dicts(value: Any) -> Any:
    """Return mappings as the dicts that JSON can be made of."""
    return {key: _as_dicts(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _new_session(data: Any) -> ChatKitSession:
    session = ChatKitSession.parse(data)
    if not session.client_secret:
        raise APIResponseValidationError("The answer has an empty 'client_secret'.")
    return session


def _segment(identifier: str) -> str:
    """Return an id as one segment of a path, whatever is in it."""
    bounds.text(maximum=255)("id", identifier)
    if not identifier.strip("."):
        raise ParameterError("id", "must not consist of dots.")
    return quote(identifier, safe="")


def _all_pages(fetch: Callable[[str | None], Page[T]]) -> Iterator[T]:
    after: str | None = None
    while True:
        page = fetch(after)
        yield from page.data
        # A page that does not move on would be fetched for ever.
        if not page.has_more or not page.data or page.last_id in {None, after}:
            return
        after = page.last_id

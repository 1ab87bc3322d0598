"""A person's own conversations, read through from the API and kept nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chatkit_sessions.client import (
    APIError,
    BadRequestError,
    ChatKitClient,
    ChatKitThread,
    NotFoundError,
    Page,
    ParameterError,
    ThreadDeleted,
    ThreadItem,
)
from chatkit_sessions.conf import Settings, get_settings
from chatkit_sessions.exceptions import InvalidRequest, ThreadNotFound, UpstreamInvalidResponse
from chatkit_sessions.identity import Identity, resolve_identity
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.policy import resolve_policy
from chatkit_sessions.workflows import find_workflow

from . import gate
from .upstream import translate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """The threads that one person may see.

    Attributes:
        identifier: whose threads they are at the API.
    """

    settings: Settings = field(repr=False)
    issuer: OpenAIIssuer = field(repr=False)
    identifier: str

    def list(self, **paging: Any) -> Page[ChatKitThread]:
        """Return one page; ``limit``, ``order``, ``after`` and ``before`` as in the API."""
        return self._call(
            lambda client: client.list_threads(user=self.identifier, **paging), self._ends(), for_thread=False
        )

    def retrieve(self, thread_id: str) -> ChatKitThread:
        """Return one thread.

        Raises:
            ThreadNotFound: it is unknown or somebody else's.
        """
        return self._own(thread_id, self._ends())

    def items(self, thread_id: str, **paging: Any) -> Page[ThreadItem]:
        """Return one page of a thread's items."""
        ends = self._ends()
        self._own(thread_id, ends)
        return self._call(lambda client: client.list_thread_items(thread_id, **paging), ends)

    def delete(self, thread_id: str) -> ThreadDeleted:
        """Delete a thread for good.

        Raises:
            UpstreamInvalidResponse: the API says that it did not.
        """
        ends = self._ends()
        self._own(thread_id, ends)
        answer = self._call(lambda client: client.delete_thread(thread_id), ends)
        if not answer.deleted:
            raise UpstreamInvalidResponse
        return answer

    def _ends(self) -> float:
        """Return when DEADLINE is over for what begins now, on the monotonic clock."""
        return time.monotonic() + self.settings.deadline

    def _own(self, thread_id: str, ends: float) -> ChatKitThread:
        thread = self._call(lambda client: client.retrieve_thread(thread_id), ends)
        if thread.user != self.identifier:
            raise ThreadNotFound
        return thread

    def _call(self, ask: Callable[[ChatKitClient], T], ends: float, *, for_thread: bool = True) -> T:
        try:
            with gate.passing(self.settings, self.issuer.base_url):
                return ask(self.issuer.client(ends - time.monotonic()))
        except NotFoundError as error:
            raise (ThreadNotFound if for_thread else translate(error)) from None
        except ParameterError as error:
            if error.field == "id":
                raise ThreadNotFound from None
            raise InvalidRequest({error.field: [error.reason]}) from None
        except BadRequestError as error:
            if error.param in {"limit", "order", "after", "before"}:
                raise InvalidRequest({error.param: ["is not accepted by the API."]}) from None
            raise translate(error) from error
        except APIError as error:
            raise translate(error) from error


def conversations(*, user: Any = None, request: Any = None, workflow: str | None = None) -> Conversations:
    """Return the conversations of a person, by default with the default workflow.

    Raises:
        WorkflowNotFound: the workflow is unknown, inactive or not open to this person.
        NotAuthenticated: there is nobody.
        NotConfigured: the site lacks a key, a valid setting or its default workflow.
    """
    settings = get_settings()
    identity: Identity = resolve_identity(settings, user=user, request=request)
    config = find_workflow(settings, workflow, identity)
    policy = resolve_policy(settings, config, identity, {})
    return Conversations(
        settings=settings,
        issuer=OpenAIIssuer(settings, policy["credentials"]),
        identifier=identity.identifier_for(config.slug, isolate_history=policy["isolate_history"]),
    )

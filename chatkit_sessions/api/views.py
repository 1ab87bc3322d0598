"""The endpoints: validate, call one service, answer."""

from __future__ import annotations

from typing import Any

from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from chatkit_sessions.client import Page
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import SessionNotFound, ThreadNotFound
from chatkit_sessions.identity import resolve_identity
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet
from chatkit_sessions.services import Conversations, cancel_session, conversations, issue_session
from chatkit_sessions.visitors import is_new_visitor
from chatkit_sessions.workflows import open_workflows

from . import pages
from .base import ChatKitView
from .parsers import require_length
from .serializers import (
    IssueSerializer,
    PageSerializer,
    ThreadPageSerializer,
    ThreadSerializer,
    list_object,
    session_object,
    workflow_object,
)


class SessionListView(ChatKitView):
    """Issue a session, or list the caller's own."""

    @method_decorator(sensitive_variables())
    def post(self, request: Request) -> Response:
        """Issue a session for the caller and return it with its client secret."""
        require_length(request)
        body = _valid(IssueSerializer(data=request.data))
        issued = issue_session(
            user=request.user,
            request=request._request,
            workflow=body.get("workflow"),
            current_client_secret=body.get("current_client_secret"),
            client_state_variables=body.get("state_variables"),
        )
        content = session_object(issued.session, client_secret=issued.client_secret, reused=issued.reused)
        return Response(content, status=200 if issued.reused else 201)

    def get(self, request: Request) -> Response:
        """Return the caller's own sessions, newest first."""
        query = _valid(PageSerializer(data=request.query_params))
        sessions, has_more = pages.page(_own_sessions(request), **query)
        return Response(list_object([session_object(session) for session in sessions], has_more=has_more))


class SessionDetailView(ChatKitView):
    """One of the caller's sessions."""

    def get(self, request: Request, session_id: str) -> Response:
        """Return it, without its secret."""
        return Response(session_object(_own_session(request, session_id)))


class SessionCancelView(ChatKitView):
    """The end of one of the caller's sessions."""

    def post(self, request: Request, session_id: str) -> Response:
        """Cancel it; one that has ended stays as it is."""
        session = _own_session(request, session_id)
        by = request.user if request.user.is_authenticated else None
        return Response(session_object(cancel_session(session, by=by, reason="cancelled by its user")))


class WorkflowListView(ChatKitView):
    """What the caller may start."""

    def get(self, request: Request) -> Response:
        """Return the workflows that are open to the caller, with their widget options."""
        settings = get_settings()
        identity = resolve_identity(settings, user=request.user, request=request._request)
        workflows = [workflow_object(workflow) for workflow in open_workflows(settings, identity)]
        return Response(list_object(workflows, has_more=False))


class ThreadListView(ChatKitView):
    """The caller's conversations."""

    def get(self, request: Request) -> Response:
        """Return one page of them, newest first."""
        query = _valid(ThreadPageSerializer(data=request.query_params))
        own = _conversations(request, query)
        if is_new_visitor(request._request):  # the API is not asked for what cannot be there
            return Response(list_object([], has_more=False))
        return Response(_api_page(own.list(**query)))


class ThreadDetailView(ChatKitView):
    """One of the caller's conversations."""

    def get(self, request: Request, thread_id: str) -> Response:
        """Return it."""
        query = _valid(ThreadSerializer(data=request.query_params))
        return Response(_conversation(request, query).retrieve(thread_id).raw)

    def delete(self, request: Request, thread_id: str) -> Response:
        """Delete it for good."""
        query = _valid(ThreadSerializer(data=request.query_params))
        _conversation(request, query).delete(thread_id)
        return Response(status=204)


class ThreadItemsView(ChatKitView):
    """What was said in one of the caller's conversations."""

    def get(self, request: Request, thread_id: str) -> Response:
        """Return one page of its items, newest first."""
        query = _valid(ThreadPageSerializer(data=request.query_params))
        items = _conversation(request, query).items(thread_id, **query)
        return Response(_api_page(items))


@sensitive_variables()
def _valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    validated: dict[str, Any] = serializer.validated_data
    return validated


def _own_sessions(request: Request) -> ChatSessionQuerySet:
    identity = resolve_identity(get_settings(), user=request.user, request=request._request)
    return ChatSession.objects.issued().of(identity)


def _own_session(request: Request, session_id: str) -> ChatSession:
    session = _own_sessions(request).named(session_id).first()
    if session is None:
        raise SessionNotFound
    return session


def _conversations(request: Request, query: dict[str, Any]) -> Conversations:
    """Return the conversations with the workflow that the query names, and take the name out of it."""
    return conversations(user=request.user, request=request._request, workflow=query.pop("workflow", None))


def _conversation(request: Request, query: dict[str, Any]) -> Conversations:
    """Return the conversations that one may be among."""
    own = _conversations(request, query)
    if is_new_visitor(request._request):
        raise ThreadNotFound
    return own


def _api_page(page: Page[Any]) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [entry.raw for entry in page.data],
        "first_id": page.first_id,
        "last_id": page.last_id,
        "has_more": page.has_more,
    }

"""What /api/docs/ says of the endpoints.

The package itself knows nothing of drf-spectacular. A site that uses it describes the views from outside, as
here: each `describe` makes an extension, which drf-spectacular finds by the view's name.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

from chatkit_sessions.api.serializers import PageSerializer, ThreadPageSerializer
from demo.shapes import INVALID, ISSUE, SESSION, THREAD, THREAD_ITEM, WORKFLOW, Schema, error, page_of

Answers = dict[int, OpenApiResponse]


def answer(description: str, shape: Schema | None = None) -> OpenApiResponse:
    return OpenApiResponse(shape, description)


INVALID_REQUEST: Answers = {400: answer("The request is not valid.", INVALID)}
# What any request may meet.
ALWAYS: Answers = {
    401: answer("No valid sign-in.", error("not_authenticated", "authentication_failed")),
    403: answer(
        "Nobody is signed in, or the CSRF token is missing.",
        error("not_authenticated", "authentication_failed", "permission_denied"),
    ),
    404: answer("The query asks for another `format`.", error("not_found")),
    406: answer("The client accepts no JSON.", error("not_acceptable")),
    429: answer("Too many requests.", error("throttled")),
    503: answer("The site is not set up.", error("not_configured")),
}
CHAT_SERVICE_CODES = (
    "upstream_rate_limited",
    "upstream_unavailable",
    "not_configured",
    "storage_unavailable",
)
# What the chat service adds to it.
CHAT_SERVICE: Answers = {
    502: answer(
        "The chat service refused the request, or its answer cannot be used.",
        error("upstream_rejected", "upstream_invalid_response"),
    ),
    503: answer("The chat service or the site is not ready.", error(*CHAT_SERVICE_CODES)),
    504: answer("The chat service did not answer in time.", error("upstream_timeout")),
}
# Of every method that may have a body, also where the endpoint makes no use of it.
BODY_REFUSED: Answers = {
    **INVALID_REQUEST,
    415: answer("The body is not declared as JSON.", error("unsupported_media_type")),
}
SESSION_UNKNOWN: Answers = {
    404: answer("None of the caller's sessions.", error("session_not_found", "not_found"))
}
WORKFLOW_UNKNOWN: Answers = {
    404: answer("Not a workflow of the caller's.", error("workflow_not_found", "not_found"))
}
THREAD_UNKNOWN: Answers = {
    404: answer(
        "Not a conversation or a workflow of the caller's.",
        error("thread_not_found", "workflow_not_found", "not_found"),
    )
}
ISSUE_REFUSED: Answers = {
    403: answer(
        "Nobody is signed in, the CSRF token is missing, or an operator has blocked the caller.",
        error("not_authenticated", "authentication_failed", "permission_denied", "blocked"),
    ),
    429: answer("Too many sessions or requests.", error("session_limit_reached", "throttled")),
}

OF_WORKFLOW = OpenApiParameter(
    "workflow",
    {"type": "string", "minLength": 1, "maxLength": 255},
    description="Where a workflow keeps its own history, its name.",
)


def header(name: str, shape: Schema, statuses: list[int | str] | bool, **details: Any) -> OpenApiParameter:
    return OpenApiParameter(name, shape, OpenApiParameter.HEADER, response=statuses, **details)


SECONDS: Schema = {"type": "integer", "minimum": 1}
HEADERS = (
    header("Cache-Control", {"type": "string", "enum": ["private, no-store"]}, True, required=True),
    header("Retry-After", SECONDS, [429], required=True, description="Seconds after which to try again."),
    # Not required: a site that is not set up cannot tell when it will be.
    header("Retry-After", SECONDS, [503], description="Seconds after which to try again."),
    header("WWW-Authenticate", {"type": "string"}, [401], required=True),
)


def describe(view: str, **methods: Any) -> None:
    """Describe the methods of one of the package's views."""

    class Extension(OpenApiViewExtension):  # type: ignore[no-untyped-call]  # its __init_subclass__
        target_class = f"chatkit_sessions.api.views.{view}"

        def view_replacement(self) -> type:
            target: Any = self.target_class  # by now the class that the name stood for
            described: type = extend_schema_view(**methods)(type(view, (target,), {}))
            return described


def operation(name: str, *answers: Answers, parameters: tuple[Any, ...] = (), **details: Any) -> Any:
    """Describe one method: later answers replace earlier ones of the same status."""
    responses: Answers = dict(ALWAYS)
    for more in answers:
        responses |= more
    return extend_schema(
        operation_id=name,
        responses=dict(sorted(responses.items())),
        parameters=[*parameters, *HEADERS],
        **details,
    )


describe(
    "SessionListView",
    post=operation(
        "issue_session",
        {200: answer("A running session, handed out again.", SESSION), 201: answer("Issued.", SESSION)},
        BODY_REFUSED,
        CHAT_SERVICE,
        WORKFLOW_UNKNOWN,
        ISSUE_REFUSED,
        request={"application/json": ISSUE},
        description="Issue a session (201), or hand out again the one whose secret is sent along (200).",
    ),
    get=operation(
        "list_sessions",
        {200: answer("The caller's own sessions.", page_of(SESSION))},
        INVALID_REQUEST,
        parameters=(PageSerializer,),
    ),
)
describe(
    "SessionDetailView",
    get=operation("retrieve_session", {200: answer("Without its secret.", SESSION)}, SESSION_UNKNOWN),
)
describe(
    "SessionCancelView",
    post=operation(
        "cancel_session",
        {200: answer("As it is now; one that had ended stays as it was.", SESSION)},
        BODY_REFUSED,
        SESSION_UNKNOWN,
        request=None,
    ),
)
describe(
    "WorkflowListView",
    get=operation(
        "list_workflows", {200: answer("The workflows that the caller may start.", page_of(WORKFLOW))}
    ),
)
describe(
    "ThreadListView",
    get=operation(
        "list_threads",
        {200: answer("The caller's own conversations.", page_of(THREAD))},
        INVALID_REQUEST,
        CHAT_SERVICE,
        WORKFLOW_UNKNOWN,
        parameters=(ThreadPageSerializer,),
    ),
)
describe(
    "ThreadDetailView",
    get=operation(
        "retrieve_thread",
        {200: answer("The conversation.", THREAD)},
        INVALID_REQUEST,
        CHAT_SERVICE,
        THREAD_UNKNOWN,
        parameters=(OF_WORKFLOW,),
    ),
    delete=operation(
        "delete_thread",
        {204: answer("Deleted for good.")},
        INVALID_REQUEST,
        CHAT_SERVICE,
        THREAD_UNKNOWN,
        parameters=(OF_WORKFLOW,),
    ),
)
describe(
    "ThreadItemsView",
    get=operation(
        "list_thread_items",
        {200: answer("What was said.", page_of(THREAD_ITEM))},
        INVALID_REQUEST,
        CHAT_SERVICE,
        THREAD_UNKNOWN,
        parameters=(ThreadPageSerializer,),
    ),
)

"""What /api/docs/ says of the endpoints.

The package itself knows nothing of drf-spectacular. A site that uses it describes the views from outside, as
here: each `describe` makes an extension, which drf-spectacular finds by the view's name.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view

from chatkit_sessions.api.serializers import IssueSerializer, PageSerializer, ThreadPageSerializer

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object", "additionalProperties": True}


def record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def constant(value: str) -> Schema:
    return {"type": "string", "enum": [value]}


def nullable(schema: Schema) -> Schema:
    return {**schema, "nullable": True}


def page_of(entry: Schema) -> Schema:
    return record(
        object=constant("list"),
        data={"type": "array", "items": entry},
        first_id=nullable(STRING),
        last_id=nullable(STRING),
        has_more=BOOLEAN,
    )


SESSION = record(
    id=STRING,
    object=constant("chatkit.session"),
    status={"type": "string", "enum": ["active", "expired", "cancelled"]},
    client_secret=STRING,
    expires_at=INTEGER,
    user=STRING,
    workflow=ANYTHING,
    rate_limits=record(max_requests_per_1_minute=INTEGER),
    max_requests_per_1_minute=INTEGER,
    chatkit_configuration=ANYTHING,
    created_at=INTEGER,
    workflow_slug=STRING,
    reused=BOOLEAN,
)
WORKFLOW = record(
    object=constant("chatkit.workflow"), id=STRING, slug=STRING, name=STRING, ui_options=ANYTHING
)
THREAD = record(
    id=STRING,
    object=constant("chatkit.thread"),
    title=nullable(STRING),
    status=ANYTHING,
    user=STRING,
    created_at=INTEGER,
)
ERROR = record(detail=STRING, code=STRING, reference=nullable(STRING))

REFUSED = {400: ERROR, 403: ERROR}
UNKNOWN = {**REFUSED, 404: ERROR}
UPSTREAM = {**UNKNOWN, 502: ERROR, 503: ERROR, 504: ERROR}
OF_WORKFLOW = OpenApiParameter(
    "workflow", str, description="Where a workflow keeps its own history, its name."
)


def describe(view: str, **methods: Any) -> None:
    """Describe the methods of one of the package's views."""

    class Extension(OpenApiViewExtension):  # type: ignore[no-untyped-call]  # its __init_subclass__
        target_class = f"chatkit_sessions.api.views.{view}"

        def view_replacement(self) -> type:
            target: Any = self.target_class  # by now the class that the name stood for
            described: type = extend_schema_view(**methods)(type(view, (target,), {}))
            return described


def operation(name: str, responses: dict[int, Any], **details: Any) -> Any:
    return extend_schema(operation_id=name, responses=responses, **details)


describe(
    "SessionListView",
    post=operation(
        "issue_session",
        {200: SESSION, 201: SESSION, **UPSTREAM, 429: ERROR},
        request=IssueSerializer,
        description="Issue a session (201), or hand out again the one whose secret is sent along (200).",
    ),
    get=operation("list_sessions", {200: page_of(SESSION), **REFUSED}, parameters=[PageSerializer]),
)
describe("SessionDetailView", get=operation("retrieve_session", {200: SESSION, **UNKNOWN}))
describe("SessionCancelView", post=operation("cancel_session", {200: SESSION, **UNKNOWN}, request=None))
describe("WorkflowListView", get=operation("list_workflows", {200: page_of(WORKFLOW), **REFUSED}))
describe(
    "ThreadListView",
    get=operation("list_threads", {200: page_of(THREAD), **UPSTREAM}, parameters=[ThreadPageSerializer]),
)
describe(
    "ThreadDetailView",
    get=operation("retrieve_thread", {200: THREAD, **UPSTREAM}, parameters=[OF_WORKFLOW]),
    delete=operation("delete_thread", {204: None, **UPSTREAM}, parameters=[OF_WORKFLOW]),
)
describe(
    "ThreadItemsView",
    get=operation(
        "list_thread_items", {200: page_of(ANYTHING), **UPSTREAM}, parameters=[ThreadPageSerializer]
    ),
)

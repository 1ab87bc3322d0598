"""The shapes of what goes in and comes out of the endpoints, as OpenAPI writes them.

Our own objects are closed (`record`), so that a field which is not described is a fault. What comes from the
chat service is open: the service may add to it.
"""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object", "additionalProperties": True}


def constant(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def nullable(schema: Schema) -> Schema:
    return {**schema, "nullable": True}


def object_with(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def open_record(**properties: Schema) -> Schema:
    return {**object_with(**properties), "required": list(properties)}


def record(**properties: Schema) -> Schema:
    return {**open_record(**properties), "additionalProperties": False}


def page_of(entry: Schema) -> Schema:
    return record(
        object=constant("list"),
        data={"type": "array", "items": entry},
        first_id=nullable(STRING),
        last_id=nullable(STRING),
        has_more=BOOLEAN,
    )


def error(*codes: str) -> Schema:
    return record(detail=STRING, code=constant(*codes), reference=nullable(STRING))


# Field errors stand beside the sentence. A body that is no JSON has no fields.
INVALID = error("invalid")
INVALID["properties"]["errors"] = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": STRING},
    "description": "For each field, what is wrong with it.",
}

ISSUE = object_with(
    workflow=nullable(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 255},
                open_record(id=nullable({"type": "string", "minLength": 1, "maxLength": 255})),
            ],
            "description": "The slug of a workflow or its id; the default one where there is none.",
        }
    ),
    current_client_secret=nullable(
        {
            "type": "string",
            "maxLength": 4096,
            "description": "The session's secret that the page has; also read as `currentClientSecret`.",
        }
    ),
    state_variables=nullable(
        {
            "type": "object",
            "maxProperties": 64,
            "additionalProperties": {"oneOf": [STRING, {"type": "number"}, BOOLEAN]},
            "description": "Only the names that the site lets the browser send.",
        }
    ),
)

SESSION = record(
    id=STRING,
    object=constant("chatkit.session"),
    status=constant("active", "expired", "cancelled"),
    client_secret={**STRING, "description": "Empty but where the session is issued or handed out again."},
    expires_at={**INTEGER, "description": "In unix seconds."},
    user=STRING,
    workflow=record(
        id=STRING,
        version=nullable(STRING),
        state_variables={**nullable(ANYTHING), "description": "Always null: they may be private."},
        tracing=record(enabled=BOOLEAN),
    ),
    rate_limits=record(max_requests_per_1_minute=nullable(INTEGER)),
    max_requests_per_1_minute=nullable(INTEGER),
    chatkit_configuration=open_record(
        automatic_thread_titling=open_record(enabled=BOOLEAN),
        file_upload=open_record(
            enabled=BOOLEAN, max_file_size=nullable(INTEGER), max_files=nullable(INTEGER)
        ),
        history=open_record(enabled=BOOLEAN, recent_threads=nullable(INTEGER)),
    ),
    created_at={**INTEGER, "description": "In unix seconds."},
    workflow_slug=STRING,
    reused={**BOOLEAN, "description": "Whether a running session was handed out again."},
)

WORKFLOW = record(
    object=constant("chatkit.workflow"), id=STRING, slug=STRING, name=STRING, ui_options=ANYTHING
)

THREAD = open_record(id=STRING, created_at=INTEGER, user=STRING)
THREAD["properties"] |= {
    "object": constant("chatkit.thread"),
    "title": nullable(STRING),
    "status": {**object_with(type=STRING, reason=nullable(STRING)), "additionalProperties": True},
}

THREAD_ITEM = open_record(id=STRING, type=STRING, thread_id=STRING, created_at=INTEGER)

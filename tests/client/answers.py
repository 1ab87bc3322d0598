"""Answers as the API's description and its reference print them."""

from typing import Any

SECRET = "ek_" + "secret" * 4

NEWER: dict[str, Any] = {
    "id": "cksess_123",
    "object": "chatkit.session",
    "status": "active",
    "client_secret": SECRET,
    "expires_at": 1_900_000_000,
    "user": "ada",
    "workflow": {
        "id": "wf_1",
        "version": None,
        "state_variables": None,
        "tracing": {"enabled": True},
    },
    "rate_limits": {"max_requests_per_1_minute": 10},
    "max_requests_per_1_minute": 10,
    "chatkit_configuration": {
        "automatic_thread_titling": {"enabled": True},
        "file_upload": {"enabled": False, "max_file_size": None, "max_files": None},
        "history": {"enabled": True, "recent_threads": None},
    },
}

# Without id, object and user; scope and max_requests_per_session are in no description.
OLDER: dict[str, Any] = {
    "client_secret": SECRET,
    "expires_at": 1_900_000_000,
    "workflow": {"id": "wf_1", "version": "2024-10-01"},
    "scope": {"project": "alpha", "environment": "staging"},
    "max_requests_per_1_minute": 60,
    "max_requests_per_session": 500,
    "status": "active",
}

THREAD: dict[str, Any] = {
    "id": "cthr_1",
    "object": "chatkit.thread",
    "created_at": 1_700_000_000,
    "title": None,
    "status": {"type": "locked", "reason": None},
    "user": "ada",
}

DELETED: dict[str, Any] = {"id": "cthr_1", "object": "chatkit.thread.deleted", "deleted": True}

_ITEM = {
    "id": "cthi_1",
    "object": "chatkit.thread_item",
    "created_at": 1_700_000_000,
    "thread_id": "cthr_1",
}

USER_MESSAGE: dict[str, Any] = {
    **_ITEM,
    "type": "chatkit.user_message",
    "content": [],
    "attachments": [],
    "inference_options": None,
}
ASSISTANT_MESSAGE: dict[str, Any] = {**_ITEM, "type": "chatkit.assistant_message", "content": []}
WIDGET: dict[str, Any] = {**_ITEM, "type": "chatkit.widget", "widget": "{}"}
TOOL_CALL: dict[str, Any] = {
    **_ITEM,
    "type": "chatkit.client_tool_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "search",
    "arguments": "{}",
    "output": None,
}
TASK: dict[str, Any] = {
    **_ITEM,
    "type": "chatkit.task",
    "task_type": "custom",
    "heading": None,
    "summary": None,
}
TASK_GROUP: dict[str, Any] = {**_ITEM, "type": "chatkit.task_group", "tasks": []}
UNKNOWN_ITEM: dict[str, Any] = {**_ITEM, "type": "chatkit.hologram", "depth": 3}


def page(*data: Any, has_more: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a page of a list."""
    ids = [str(entry["id"]) for entry in data if isinstance(entry, dict)]
    return {
        "object": "list",
        "data": list(data),
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
        **changes,
    }

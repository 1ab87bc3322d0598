"""Thread items in the API's shape, one small factory for each of the six types.

They come without `id`, `object`, `created_at` and `thread_id`: a thread gives them these when they are added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .exchange import Json


def user_message(
    text: str,
    *,
    quoted: str | None = None,
    attachments: Sequence[Json] = (),
    inference_options: Json | None = None,
) -> Json:
    """Return what a person wrote, perhaps quoting a passage and attaching files."""
    quotes = [] if quoted is None else [{"type": "quoted_text", "text": quoted}]
    return {
        "type": "chatkit.user_message",
        "content": [*quotes, {"type": "input_text", "text": text}],
        "attachments": list(attachments),
        "inference_options": inference_options,
    }


def assistant_message(text: str, *, annotations: Sequence[Json] = ()) -> Json:
    """Return what the workflow answered, perhaps citing sources."""
    content = {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"type": "chatkit.assistant_message", "content": [content]}


def widget(payload: Mapping[str, Any]) -> Json:
    """Return a rendered widget; the API keeps its payload as text."""
    return {"type": "chatkit.widget", "widget": json.dumps(payload)}


def client_tool_call(name: str, arguments: Mapping[str, Any], *, output: Any = None) -> Json:
    """Return a call of a tool in the browser; it is in progress until it has an output."""
    return {
        "type": "chatkit.client_tool_call",
        "status": "in_progress" if output is None else "completed",
        "call_id": f"call_{name}",
        "name": name,
        "arguments": json.dumps(arguments),
        "output": None if output is None else json.dumps(output),
    }


def task(heading: str | None, *, summary: str | None = None, task_type: str = "custom") -> Json:
    """Return a step that the workflow shows; `task_type` is "custom" or "thought"."""
    return {"type": "chatkit.task", "task_type": task_type, "heading": heading, "summary": summary}


def task_group(*headings: str) -> Json:
    """Return several steps shown together."""
    tasks = [{"type": "custom", "heading": heading, "summary": None} for heading in headings]
    return {"type": "chatkit.task_group", "tasks": tasks}


def one_of_each() -> list[Json]:
    """Return one item of every type, with every optional part present somewhere."""
    photo = {
        "type": "image",
        "id": "cfile_1",
        "name": "box.png",
        "mime_type": "image/png",
        "preview_url": None,
    }
    options = {"tool_choice": {"id": "lookup"}, "model": "gpt-5"}
    cited = {"type": "file", "source": {"type": "file", "filename": "terms.pdf"}}
    linked = {"type": "url", "source": {"type": "url", "url": "https://example.com/terms"}}
    return [
        user_message(
            "Can I return this?",
            quoted="30 days",
            attachments=[photo],
            inference_options=options,
        ),
        task("Reading the terms", summary="Two pages", task_type="thought"),
        task_group("Find the order", "Check the date"),
        client_tool_call("open_order", {"order": 42}, output={"opened": True}),
        widget({"type": "Card", "children": [{"type": "Text", "value": "Order 42"}]}),
        assistant_message("Yes, until Friday.", annotations=[cited, linked]),
    ]

from typing import Any

import pytest

from chatkit_sessions.widget.options import header_name, widget_config


def config(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "sessions_url": "/chat/sessions/",
        "csrf_token": "token",
        "csrf_header": "X-CSRFTOKEN",
        "workflow": None,
        "ui_options": {},
        "messages": {},
    }
    return widget_config(**{**values, **changes})


def test_the_page_code_gets_all_that_it_reads() -> None:
    assert config(
        workflow="support", ui_options={"theme": "dark"}, messages={"failed": "No.", "blocked": "Not loaded."}
    ) == {
        "sessionsUrl": "/chat/sessions/",
        "csrfToken": "token",
        "csrfHeader": "X-CSRFTOKEN",
        "workflow": "support",
        "options": {"theme": "dark"},
        "messages": {"failed": "No.", "blocked": "Not loaded."},
    }


def test_the_configuration_is_a_copy() -> None:
    options, messages = {"theme": "dark"}, {"failed": "No."}
    made = config(ui_options=options, messages=messages)
    made["options"]["theme"] = made["messages"]["failed"] = "changed"
    assert (options, messages) == ({"theme": "dark"}, {"failed": "No."})


@pytest.mark.parametrize(
    ("setting", "header"),
    [
        ("HTTP_X_CSRFTOKEN", "X-CSRFTOKEN"),
        ("HTTP_X_XSRF_TOKEN", "X-XSRF-TOKEN"),
        ("HTTP_TOKEN", "TOKEN"),
        ("HTTP_X_HTTP_TOKEN", "X-HTTP-TOKEN"),
    ],
)
def test_a_header_is_named_as_browsers_send_it(setting: str, header: str) -> None:
    assert header_name(setting) == header

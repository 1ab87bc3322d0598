"""Visit the site of tests/test_wheel.py, run by that site's own interpreter; print what is seen as JSON."""

import json
import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()

from django.contrib.auth.models import User  # noqa: E402  # models wait for setup()
from django.test import Client  # noqa: E402

import chatkit_sessions  # noqa: E402
from chatkit_sessions.models import ChatSession  # noqa: E402


def main() -> None:
    client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost")
    client.force_login(User.objects.create_user("visitor"))
    page = client.get("/")
    token = client.cookies["csrftoken"].value
    answer = client.post(
        "/api/chatkit/sessions/", {}, content_type="application/json", headers={"x-csrftoken": token}
    )
    session = answer.json()
    session["client_secret"] = bool(session["client_secret"])  # not for a log of the tests
    seen = {
        "package": chatkit_sessions.__file__,
        "page_status": page.status_code,
        "page": page.content.decode(),
        "status": answer.status_code,
        "session": session,
        "rows": list(ChatSession.objects.values_list("user__username", "status", "workflow_id")),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()

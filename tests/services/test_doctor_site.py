"""What the doctor says of the settings, the key, the database and the cache."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.db.migrations import executor
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.recorder import MigrationRecorder

from chatkit_sessions.conf import read
from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.services.doctor import Finding, Level, examine, site
from chatkit_sessions.services.doctor.key import about_key, masked
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at

from .test_doctor import failure, found

pytestmark = pytest.mark.django_db

KEY = "sk-" + "sentinel" * 3 + "wxyz"
SHOWN = "sk-...wxyz"
SET_A_KEY = "Set OPENAI_API_KEY in the environment, or API_KEY in CHATKIT_SESSIONS."


class ForgetfulCache(LocMemCache):
    """Loses everything at once."""

    def get(self, *arguments: Any, **options: Any) -> Any:
        return None


class BrokenCache(LocMemCache):
    """Names the address of its server, password included."""

    def set(self, *arguments: Any, **options: Any) -> Any:
        raise ConnectionError("redis://:cache-password@127.0.0.1 is away")


def own(key: str, place: str = __name__) -> str:
    return f"{place}.{key}"


def key_finding(settings: dict[str, Any], credentials: str = "") -> Finding:
    with pointed_at(**settings):
        return about_key(read()[0], credentials)


def test_every_problem_of_the_settings_is_told() -> None:
    with pointed_at(TIMEOUTS=3, EXPIRES_AFTER=0) as api:
        diagnosis = examine()
        assert api.requests == []
    problems = [finding for finding in diagnosis.findings if finding.check == "settings"]
    assert [(finding.level, finding.message) for finding in problems] == [
        (
            Level.ERROR,
            "CHATKIT_SESSIONS[\"TIMEOUTS\"] is unknown. Did you mean 'TIMEOUT'? (chatkit_sessions.E001)",
        ),
        (
            Level.ERROR,
            'CHATKIT_SESSIONS["EXPIRES_AFTER"] must be an integer of at least 1, not 0. '
            "(chatkit_sessions.E002)",
        ),
    ]
    assert {finding.cure for finding in problems} == {
        "See the settings table in the README; every key of CHATKIT_SESSIONS is optional."
    }
    assert found(diagnosis, "session").level is Level.INFO
    assert not diagnosis.ok


def test_a_warning_of_the_checks_keeps_nothing_from_being_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pointed_at(CREDENTIALS={"eu": {"BASE_URL": "http://api.example.com/v1"}}):
        diagnosis = examine()
    assert diagnosis.ok
    assert found(diagnosis, "settings") == Finding(
        "settings",
        Level.WARNING,
        "CHATKIT_SESSIONS[\"CREDENTIALS\"]['eu'].BASE_URL sends the API key over plain http to "
        "api.example.com. (chatkit_sessions.W002)",
        "Begin the address with https://.",
    )


def test_a_check_that_the_site_has_silenced_is_not_told(settings: Any) -> None:
    settings.SILENCED_SYSTEM_CHECKS = ["chatkit_sessions.W002"]
    with pointed_at(CREDENTIALS={"eu": {"BASE_URL": "http://api.example.com/v1"}}):
        assert found(examine(), "settings").level is Level.OK


def test_a_missing_key_is_told_once_and_nothing_is_sent() -> None:
    with pointed_at(API_KEY=None) as api:
        diagnosis = examine()
        assert api.requests == []
    assert failure(diagnosis) == Finding(
        "key",
        Level.ERROR,
        'There is no API key: CHATKIT_SESSIONS["API_KEY"] is empty, and wins over the environment.',
        SET_A_KEY,
    )
    assert found(diagnosis, "settings").level is Level.OK
    assert not ChatSession.objects.exists()


def test_a_missing_key_is_told_beside_settings_that_are_not_valid() -> None:
    with pointed_at(API_KEY=None, EXPIRES_AFTER=0):
        messages = [finding.message for finding in examine().findings if finding.check == "settings"]
    assert messages[1] == "There is no OpenAI API key, so no session can be issued. (chatkit_sessions.W001)"


def test_a_key_that_nobody_has_set_is_told(settings: Any) -> None:
    settings.CHATKIT_SESSIONS = {"WORKFLOWS": {"default": {"id": "wf_tests"}}}
    assert failure(examine()) == Finding("key", Level.ERROR, "There is no API key.", SET_A_KEY)


@pytest.mark.parametrize("variable", ["CHATKIT_OPENAI_API_KEY", "OPENAI_API_KEY"])
def test_a_key_of_the_environment_is_told_with_its_variable(
    settings: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    settings.CHATKIT_SESSIONS = {}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "another" * 4)
    monkeypatch.setenv(variable, KEY)
    assert about_key(read()[0], "") == Finding("key", Level.OK, f"{SHOWN}, from {variable}.")


@pytest.mark.parametrize(
    ("configured", "credentials", "message"),
    [
        ({"API_KEY": KEY}, "", f'{SHOWN}, from CHATKIT_SESSIONS["API_KEY"].'),
        (
            {"API_KEY": lambda: KEY},
            "",
            f'{SHOWN}, which the function in CHATKIT_SESSIONS["API_KEY"] returned.',
        ),
        (
            {"CREDENTIALS": {"eu": {"API_KEY": KEY}}},
            "eu",
            f"{SHOWN}, from CHATKIT_SESSIONS[\"CREDENTIALS\"]['eu'].API_KEY.",
        ),
        (
            {"API_KEY": KEY, "CREDENTIALS": {"eu": {"PROJECT": "proj_1"}}},
            "eu",
            f'{SHOWN}, from CHATKIT_SESSIONS["API_KEY"].',
        ),
    ],
)
def test_a_key_is_told_with_its_place(configured: dict[str, Any], credentials: str, message: str) -> None:
    assert key_finding(configured, credentials) == Finding("key", Level.OK, message)


def fail() -> str:
    raise RuntimeError(f"the vault says no to {KEY}")


@pytest.mark.parametrize(
    ("configured", "credentials", "message", "cure"),
    [
        (
            {"API_KEY": fail},
            "",
            "The callable that returns the API key raised RuntimeError; call it in a shell to see why.",
            'Look at CHATKIT_SESSIONS["API_KEY"].',
        ),
        (
            {"API_KEY": lambda: f"{KEY}\n"},
            "",
            "API_KEY must be a string of visible ASCII characters, not one with spaces or other characters.",
            'Look at CHATKIT_SESSIONS["API_KEY"].',
        ),
        (
            {"CREDENTIALS": {"eu": {"API_KEY": ""}}},
            "eu",
            "There is no API key: CHATKIT_SESSIONS[\"CREDENTIALS\"]['eu'].API_KEY is empty, "
            "and wins over the environment.",
            SET_A_KEY,
        ),
        (
            {},
            "us",
            "Add the credentials 'us' to CREDENTIALS in CHATKIT_SESSIONS.",
            'Look at CHATKIT_SESSIONS["API_KEY"].',
        ),
    ],
)
def test_a_key_that_cannot_be_had_has_a_cure(
    configured: dict[str, Any], credentials: str, message: str, cure: str
) -> None:
    assert key_finding(configured, credentials) == Finding("key", Level.ERROR, message, cure)


def test_the_workflows_own_credentials_are_looked_at() -> None:
    Workflow.objects.create(slug="support", workflow_id="wf_1", credentials="us")
    with pointed_at() as api:
        assert failure(examine("support")).message == (
            "Add the credentials 'us' to CREDENTIALS in CHATKIT_SESSIONS."
        )
        assert api.requests == []


def test_a_key_that_is_refused_is_told_with_its_place() -> None:
    with pointed_at(StandIn(api_keys=["sk-good"]), API_KEY=KEY):
        diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "key",
        Level.ERROR,
        "The API refused the key (401: Incorrect API key provided: [removed]. You can find your API key at "
        f'https://platform.openai.com/account/api-keys). It was {SHOWN}, from CHATKIT_SESSIONS["API_KEY"].',
        "Make a new key at https://platform.openai.com/api-keys and put it where this one came from.",
    )
    assert found(diagnosis, "key").level is Level.ERROR


@pytest.mark.parametrize(
    ("key", "shown"),
    [("sk-" + "a" * 16 + "b", "sk-...aaab"), ("sk-" + "a" * 16, "***"), ("a", "***"), ("", "***")],
)
def test_of_a_key_only_its_ends_are_shown_and_of_a_short_one_nothing(key: str, shown: str) -> None:
    assert masked(key) == shown


def test_a_missing_migration_is_told_and_nothing_is_sent(standin: StandIn) -> None:
    newest = MigrationRecorder.Migration.objects.filter(app="chatkit_sessions").latest("name")
    newest.delete()
    diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "migrations",
        Level.ERROR,
        f"Migrations are missing in the database 'default' (1): chatkit_sessions.{newest.name}",
        "Run: python manage.py migrate --database default",
    )
    assert found(diagnosis, "key").level is Level.OK
    assert (standin.requests, ChatSession.objects.count()) == ([], 0)


def test_of_many_missing_migrations_the_first_are_named(standin: StandIn) -> None:
    MigrationRecorder.Migration.objects.all().delete()
    words = failure(examine()).message.split(": ")[1].split(", ")
    assert (len(words), words[-1]) == (4, "...")


def raiser(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [OperationalError, ImproperlyConfigured])
def test_a_database_that_is_away_is_told_without_its_password(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "database-password")
    said = "connection to 127.0.0.1\nfailed with database-password"
    monkeypatch.setattr(executor, "MigrationLoader", raiser(error(said)))
    diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "database",
        Level.ERROR,
        "The database failed: connection to 127.0.0.1 failed with [removed]",
        "Check that it runs, that DATABASES in the settings is right, and that migrate was run.",
    )
    assert found(diagnosis, "key").level is Level.OK
    assert standin.requests == []


def test_migrations_that_cannot_be_read_are_told(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    away = NodeNotFoundError("shop.0002 depends on shop.0001", ("shop", "0001"))
    monkeypatch.setattr(executor, "MigrationLoader", raiser(away))
    assert failure(examine()) == Finding(
        "migrations",
        Level.ERROR,
        "shop.0002 depends on shop.0001",
        "Look at the migrations of the app that it names.",
    )


SHARED = "Choose a cache that processes share: Redis, Memcached or the database."


@pytest.mark.parametrize(
    ("backend", "message", "cure"),
    [
        (
            "django.core.cache.backends.locmem.LocMemCache",
            "CACHES['default'] is not shared between processes: "
            "each counts cool-down and throttles for itself.",
            SHARED,
        ),
        (
            "django.core.cache.backends.dummy.DummyCache",
            "CACHES['default'] keeps nothing: there is no cool-down, and throttles have no effect.",
            SHARED,
        ),
        (
            own("ForgetfulCache"),
            "CACHES['default'] does not give back what was put into it.",
            "Check its server, its size and its timeout.",
        ),
        (
            own("BrokenCache"),
            "CACHES['default'] fails: ConnectionError. The cool-down and the throttles need it.",
            "Check that its server runs, and that its LOCATION in the settings is right.",
        ),
        (
            "nowhere.Cache",
            "CACHES['default'] fails: InvalidCacheBackendError. The cool-down and the throttles need it.",
            "Check that its server runs, and that its LOCATION in the settings is right.",
        ),
    ],
)
def test_a_cache_that_does_not_count_for_all_processes_is_told(
    settings: Any, backend: str, message: str, cure: str
) -> None:
    settings.CACHES = {"default": {"BACKEND": backend}}
    try:
        assert site.about_cache() == Finding("cache", Level.WARNING, message, cure)
    finally:
        # Where the cache cannot be made, the next test's clean-up could not clear it.
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


def test_a_cache_that_processes_share_is_as_it_should_be(settings: Any, tmp_path: Any) -> None:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    assert site.about_cache() == Finding("cache", Level.OK, "FileBasedCache keeps what it is given.")
    assert list(tmp_path.iterdir()) == []  # and nothing is left there
    assert caches["default"].get("chatkit_sessions.doctor") is None

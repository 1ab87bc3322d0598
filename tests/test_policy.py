from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings

from chatkit_sessions import policy
from chatkit_sessions.conf import Settings, get_settings
from chatkit_sessions.exceptions import Blocked, NotConfigured
from chatkit_sessions.identity import Identity
from chatkit_sessions.layers import Layer
from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.policy import DEFAULTS, SessionPolicy, describe_policy, resolve_policy
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at
from chatkit_sessions.workflows import find_workflow

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIMITS = ("expires_after", "max_requests_per_1_minute", "max_active_sessions", "max_sessions_per_hour")
LEAVES = {
    "automatic_thread_titling_enabled": ("automatic_thread_titling", "enabled"),
    "file_upload_enabled": ("file_upload", "enabled"),
    "file_upload_max_file_size": ("file_upload", "max_file_size"),
    "file_upload_max_files": ("file_upload", "max_files"),
    "history_enabled": ("history", "enabled"),
    "history_recent_threads": ("history", "recent_threads"),
}
CALL = ("expires_after", "max_requests_per_1_minute")
WORKFLOW_LAYERS = (Layer.WORKFLOW_SETTING, Layer.WORKFLOW)
ORDER = (Layer.SETTING, *WORKFLOW_LAYERS, Layer.GROUP_OVERRIDE, Layer.USER_OVERRIDE, Layer.ARGUMENT)
# The layers that may set each field, lowest first. Every one of them is set over the API's default.
LAYERS: dict[str, tuple[Layer, ...]] = {
    **dict.fromkeys(DEFAULTS, WORKFLOW_LAYERS),
    **dict.fromkeys(LEAVES, (Layer.SETTING, *WORKFLOW_LAYERS, Layer.ARGUMENT)),
    **dict.fromkeys(LIMITS, (Layer.SETTING, *WORKFLOW_LAYERS, Layer.GROUP_OVERRIDE, Layer.USER_OVERRIDE)),
}
for _name in CALL:
    LAYERS[_name] = (*LAYERS[_name], Layer.ARGUMENT)
BOOLEANS = tuple(name for name, default in DEFAULTS.items() if isinstance(default, bool))
TEXTS = ("workflow_id", "version", "credentials")


@dataclass
class Site:
    """A site that says values in any layer of the cascade."""

    user: User
    group: Group
    settings: dict[str, Any] = field(default_factory=dict)
    workflow_setting: dict[str, Any] = field(default_factory=lambda: {"id": "wf_1"})
    rows: dict[Layer, dict[str, Any]] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def say(self, layer: Layer, name: str, value: Any) -> None:
        """Say a value in a layer."""
        if layer in (Layer.SETTING, Layer.ARGUMENT) and name in LEAVES:
            section, leaf = LEAVES[name]
            key = "CHATKIT_CONFIGURATION" if layer is Layer.SETTING else "chatkit_configuration"
            said = self.settings if layer is Layer.SETTING else self.arguments
            said.setdefault(key, {}).setdefault(section, {})[leaf] = value
        elif layer is Layer.SETTING:
            self.settings[name.upper()] = value
        elif layer is Layer.ARGUMENT:
            self.arguments[name] = value
        elif layer is Layer.WORKFLOW_SETTING:
            if name == "workflow_id":
                del self.workflow_setting["id"]
            self.workflow_setting[name] = value
        else:
            self.rows.setdefault(layer, {})[name] = value

    def save(self) -> dict[str, Any]:
        """Store the rows and return the settings."""
        if values := self.rows.get(Layer.WORKFLOW):
            Workflow.objects.create(slug="support", **values)
        if values := self.rows.get(Layer.GROUP_OVERRIDE):
            PolicyOverride.objects.create(group=self.group, **values)
        if values := self.rows.get(Layer.USER_OVERRIDE):
            PolicyOverride.objects.create(user=self.user, **values)
        credentials = {f"project {n}": {"API_KEY": f"sk-{n}"} for n in range(9)}
        return {
            "API_KEY": "sk-tests",
            "CREDENTIALS": credentials,
            "WORKFLOWS": {"support": self.workflow_setting},
            **self.settings,
        }

    def resolve(self) -> SessionPolicy:
        """Resolve the policy of this user for the one workflow."""
        with override_settings(CHATKIT_SESSIONS=self.save()):
            return resolve(self.user, "support", {**self.arguments})


def resolve(user: User, slug: str, arguments: dict[str, Any] | None = None) -> SessionPolicy:
    settings, identity = get_settings(), Identity(user=user, identifier=str(user.pk))
    values = dict(arguments or {})
    values |= policy.from_configuration(values.pop("chatkit_configuration", {}))
    return resolve_policy(settings, find_workflow(settings, slug, identity), identity, values)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def group(user: User) -> Group:
    group = Group.objects.create(name="Trial")
    group.user_set.add(user)
    return group


@pytest.fixture
def site(user: User, group: Group) -> Site:
    return Site(user, group)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the time."""

    def set_to(moment: datetime) -> None:
        monkeypatch.setattr("django.utils.timezone.now", lambda: moment)

    return set_to


def value_of(name: str, layer: Layer, *, odd: bool = False) -> Any:
    """Return a value for a field in a layer, another one in each layer."""
    number = list(Layer).index(layer) + 1
    if name in BOOLEANS:
        return odd
    if name == "issuer":
        return "openai"
    if name == "credentials":
        return f"project {number}"
    return f"{name} {number}" if name in TEXTS else 100 + number


def found(resolved: SessionPolicy, name: str) -> tuple[Any, Layer]:
    return resolved.values[name].value, resolved.values[name].layer


def all_found(resolved: SessionPolicy, names: Iterable[str]) -> dict[str, tuple[Any, Layer]]:
    return {name: found(resolved, name) for name in names}


@pytest.mark.parametrize("layer", ORDER)
def test_every_layer_wins_over_the_default(site: Site, layer: Layer) -> None:
    expected = {
        name: (value_of(name, layer, odd=not DEFAULTS[name]), layer)
        for name, layers in LAYERS.items()
        if layer in layers
    }
    for name, (value, _layer) in expected.items():
        site.say(layer, name, value)
    resolved = site.resolve()
    assert all_found(resolved, expected) == expected
    assert all_found(resolved, set(LAYERS) - {*expected, "workflow_id"}) == {
        name: (DEFAULTS[name], Layer.DEFAULT) for name in set(LAYERS) - {*expected, "workflow_id"}
    }


@pytest.mark.parametrize(("lower", "upper"), list(combinations(ORDER, 2)))
@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
def test_each_layer_wins_over_each_below_it(site: Site, lower: Layer, upper: Layer, swapped: bool) -> None:
    both = [name for name, layers in LAYERS.items() if lower in layers and upper in layers]
    assert both
    for name in both:
        # Swapped, so that neither the larger nor the smaller one, neither true nor false, wins by itself.
        values = [value_of(name, lower, odd=True), value_of(name, upper, odd=False)]
        low, high = reversed(values) if swapped else values
        site.say(lower, name, low)
        site.say(upper, name, high)
    assert all_found(site.resolve(), both) == {
        name: (value_of(name, lower if swapped else upper, odd=swapped), upper) for name in both
    }


@pytest.mark.parametrize("top", range(1, 7))
def test_the_audit_row_keeps_each_value_with_its_layer(site: Site, top: int) -> None:
    expected: dict[str, tuple[Any, Layer]] = {"workflow_id": ("wf_1", Layer.WORKFLOW_SETTING)}
    for layer in ORDER[:top]:
        for name in LAYERS:
            if layer in LAYERS[name]:
                value = value_of(name, layer, odd=layer is Layer.WORKFLOW)
                site.say(layer, name, value)
                expected[name] = (value, layer)
    with StandIn() as api:
        settings = {**site.save(), "BASE_URL": api.base_url}
        with override_settings(CHATKIT_SESSIONS=settings):
            row = issue_session(user=site.user, workflow="support", **site.arguments).session
        sent = api.requests[0].json
    row.refresh_from_db()
    stored = {name: (item["value"], Layer(item["layer"])) for name, item in row.policy.items()}
    assert stored == {name: (value, Layer.DEFAULT) for name, value in DEFAULTS.items()} | expected
    # What no layer says is left to the API, and what it is told is what the row says.
    assert sent["chatkit_configuration"]["history"] == {
        "enabled": expected["history_enabled"][0],
        "recent_threads": expected["history_recent_threads"][0],
    }
    assert sent["expires_after"] == {"anchor": "created_at", "seconds": expected["expires_after"][0]}
    assert sent["rate_limits"] == {"max_requests_per_1_minute": expected["max_requests_per_1_minute"][0]}
    assert ("tracing" in sent["workflow"]) is ("tracing_enabled" in expected)


def test_what_no_layer_says_is_left_to_the_api(standin: StandIn, user: User) -> None:
    row = issue_session(user=user).session
    assert standin.requests[0].json == {"user": str(user.pk), "workflow": {"id": "wf_tests"}}
    assert {name: item["layer"] for name, item in row.policy.items()} == {
        **dict.fromkeys(DEFAULTS, "default"),
        "workflow_id": "workflow_setting",
    }


def test_null_and_blank_are_decided_by_the_layer_below(site: Site) -> None:
    expected = {
        name: (value_of(name, Layer.WORKFLOW_SETTING, odd=not DEFAULTS[name]), Layer.WORKFLOW_SETTING)
        for name in LAYERS
    }
    for name, (value, layer) in expected.items():
        site.say(layer, name, value)
        for above in LAYERS[name]:
            if above in (Layer.WORKFLOW, Layer.GROUP_OVERRIDE, Layer.USER_OVERRIDE):
                site.say(above, name, "" if name in (*TEXTS, "issuer") else None)
    assert all_found(site.resolve(), LAYERS) == expected


def test_null_in_the_workflows_setting_says_nothing(site: Site) -> None:
    site.say(Layer.SETTING, "expires_after", 120)
    site.say(Layer.WORKFLOW_SETTING, "expires_after", None)
    assert found(site.resolve(), "expires_after") == (120, Layer.SETTING)


def test_a_limit_can_be_lifted_for_the_whole_site(site: Site) -> None:
    site.say(Layer.SETTING, "max_sessions_per_hour", None)
    assert found(site.resolve(), "max_sessions_per_hour") == (None, Layer.SETTING)


def test_the_configuration_merges_leaf_by_leaf(site: Site) -> None:
    site.say(Layer.SETTING, "file_upload_enabled", True)
    site.say(Layer.SETTING, "history_enabled", False)
    site.say(Layer.WORKFLOW_SETTING, "file_upload_max_files", 3)
    site.say(Layer.WORKFLOW, "file_upload_max_file_size", 5)
    site.say(Layer.ARGUMENT, "history_enabled", True)
    values = site.resolve().set_values()
    assert policy.as_configuration(values) == {
        "file_upload": {"enabled": True, "max_file_size": 5, "max_files": 3},
        "history": {"enabled": True},
    }
    assert policy.from_configuration(policy.as_configuration(values)) == {
        name: value for name, value in values.items() if name in LEAVES
    }


# Overrides among each other: who they are for, for which workflow, their value; the last column wins.
SPECIFIC = [
    ("user", "support", 90),
    ("user", "", 80),
    ("group", "support", 70),
    ("group", "", 60),
]


@pytest.mark.parametrize(("winner", "loser"), [*pairwise(SPECIFIC), (SPECIFIC[0], SPECIFIC[3])])
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_more_specific_override_wins_however_strict_the_other_is(
    site: Site, name: str, winner: tuple[str, str, int], loser: tuple[str, str, int], swapped: bool
) -> None:
    both = [loser, winner] if swapped else [winner, loser]
    for who, slug, value in both:
        target = {"user": site.user} if who == "user" else {"group": site.group}
        PolicyOverride.objects.create(**target, workflow_slug=slug, **{name: value})
    who, slug, value = winner
    item = site.resolve().values[name]
    assert (item.value, item.layer) == (value, Layer(f"{who}_override"))
    assert item.source.get("workflow", "") == slug
    assert item.source[who] == {"user": "ada", "group": "Trial"}[who]


def test_overrides_win_value_by_value(site: Site) -> None:
    PolicyOverride.objects.create(user=site.user, expires_after=500)
    PolicyOverride.objects.create(group=site.group, expires_after=60, max_active_sessions=2)
    values = site.resolve().values
    assert (values["expires_after"].value, values["max_active_sessions"].value) == (500, 2)
    assert values["max_active_sessions"].layer is Layer.GROUP_OVERRIDE


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("order", [(30, 40), (40, 30)])
def test_between_two_groups_the_stricter_value_wins(site: Site, name: str, order: tuple[int, int]) -> None:
    for value in order:
        group = Group.objects.create(name=f"limit {value}")
        group.user_set.add(site.user)
        PolicyOverride.objects.create(group=group, **{name: value})
    item = site.resolve().values[name]
    assert (item.value, item.source["group"]) == (30, "limit 30")


def test_of_equal_overrides_the_oldest_is_named(site: Site) -> None:
    first, _second = (PolicyOverride.objects.create(user=site.user, expires_after=50) for _ in range(2))
    assert site.resolve().values["expires_after"].source["override"] == first.pk


@pytest.mark.parametrize("slug", ["sales", "Support"])
def test_an_override_for_another_workflow_says_nothing(site: Site, slug: str) -> None:
    PolicyOverride.objects.create(user=site.user, workflow_slug=slug, expires_after=50, is_blocked=True)
    resolved = site.resolve()
    assert found(resolved, "expires_after") == (600, Layer.DEFAULT)
    assert resolved.blocked_by is None


def test_an_override_for_somebody_else_says_nothing(site: Site) -> None:
    PolicyOverride.objects.create(user=User.objects.create_user("bob"), is_blocked=True)
    PolicyOverride.objects.create(group=Group.objects.create(name="others"), expires_after=5)
    resolved = site.resolve()
    assert found(resolved, "expires_after") == (600, Layer.DEFAULT)
    assert resolved.blocked_by is None


def test_nobody_without_an_account_has_overrides(site: Site) -> None:
    with override_settings(CHATKIT_SESSIONS=site.save()):
        settings, identity = get_settings(), Identity(user=None, identifier="ada")
        config = find_workflow(settings, "support", identity)
        PolicyOverride.objects.create(user=site.user, is_blocked=True)
        assert resolve_policy(settings, config, identity, {}).blocked_by is None


WINDOWS = [
    pytest.param(None, None, True, id="always"),
    pytest.param(-SECOND, None, True, id="begun"),
    pytest.param(0 * SECOND, None, True, id="begins now"),
    pytest.param(SECOND, None, False, id="not begun"),
    pytest.param(None, SECOND, True, id="not over"),
    pytest.param(None, 0 * SECOND, False, id="ends now"),
    pytest.param(None, -SECOND, False, id="over"),
    pytest.param(-SECOND, SECOND, True, id="inside"),
    pytest.param(SECOND, 2 * SECOND, False, id="before"),
    pytest.param(-2 * SECOND, -SECOND, False, id="after"),
    pytest.param(timedelta(microseconds=1), None, False, id="begins in a moment"),
    pytest.param(None, timedelta(microseconds=1), True, id="ends in a moment"),
]


@pytest.mark.parametrize(("since", "until", "in_force"), WINDOWS)
def test_an_override_counts_from_its_start_until_just_before_its_end(
    site: Site,
    at: Callable[[datetime], None],
    since: timedelta | None,
    until: timedelta | None,
    in_force: bool,
) -> None:
    PolicyOverride.objects.create(
        user=site.user,
        expires_after=50,
        is_blocked=True,
        valid_from=None if since is None else NOW + since,
        valid_until=None if until is None else NOW + until,
    )
    at(NOW)
    resolved = site.resolve()
    assert resolved["expires_after"] == (50 if in_force else 600)
    assert (resolved.blocked_by is not None) is in_force


def test_a_closed_window_leaves_the_value_to_the_next_override(
    site: Site, at: Callable[[datetime], None]
) -> None:
    PolicyOverride.objects.create(user=site.user, expires_after=50, valid_until=NOW)
    PolicyOverride.objects.create(group=site.group, expires_after=70, valid_from=NOW)
    at(NOW)
    assert found(site.resolve(), "expires_after") == (70, Layer.GROUP_OVERRIDE)


@pytest.mark.parametrize("slug", ["", "default"])
@pytest.mark.parametrize("who", ["user", "group"])
def test_a_block_wins_over_everything(
    standin: StandIn, site: Site, caplog: pytest.LogCaptureFixture, who: str, slug: str
) -> None:
    caplog.set_level("INFO", "chatkit_sessions")
    target = {"user": site.user} if who == "user" else {"group": site.group}
    PolicyOverride.objects.create(**target, workflow_slug=slug, is_blocked=True)
    PolicyOverride.objects.create(user=site.user, workflow_slug="default", max_sessions_per_hour=99)
    with pytest.raises(Blocked) as refused:
        issue_session(user=site.user, expires_after=60)
    assert str(refused.value) == (
        "You may not start a chat. Ask the site's operator if you think you should."
    )
    assert standin.requests == []
    assert not ChatSession.objects.exists()
    assert "Session refused (blocked)" in caplog.text


def test_who_blocks_is_known(site: Site) -> None:
    until = NOW.replace(year=2100)
    override = PolicyOverride.objects.create(group=site.group, is_blocked=True, valid_until=until)
    assert site.resolve().blocked_by == {
        "override": override.pk,
        "group": "Trial",
        "valid_until": "2100-11-01T12:00:00+00:00",
    }


def test_a_change_takes_effect_on_the_next_request_and_not_on_running_sessions(
    standin: StandIn, site: Site
) -> None:
    before = issue_session(user=site.user).session
    PolicyOverride.objects.create(user=site.user, expires_after=50)
    after = issue_session(user=site.user).session
    assert (after.policy["expires_after"]["value"], after.policy["expires_after"]["layer"]) == (
        50,
        "user_override",
    )
    stored = ChatSession.objects.get(pk=before.pk)
    assert stored.policy["expires_after"] == {"value": 600, "layer": "default"}
    assert (stored.status, stored.expires_at) == ("active", before.expires_at)
    Workflow.objects.create(slug="default", is_active=False)
    with pytest.raises(NotConfigured):
        issue_session(user=site.user)
    assert ChatSession.objects.running().count() == 2


@override_settings(TIME_ZONE="UTC")
def test_provenance_is_told_in_words(site: Site) -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC)
    PolicyOverride.objects.create(group=site.group, expires_after=600, valid_until=until)
    PolicyOverride.objects.create(user=site.user, workflow_slug="support", max_active_sessions=2)
    site.say(Layer.WORKFLOW, "file_upload_enabled", True)
    site.say(Layer.WORKFLOW_SETTING, "file_upload_max_file_size", 5)
    site.say(Layer.SETTING, "max_sessions_per_hour", None)
    site.say(Layer.ARGUMENT, "max_requests_per_1_minute", 7)
    described = {label: (value, source) for label, value, source in describe_policy(site.resolve().as_json())}
    assert described == {
        "tracing": ("yes", "the default"),
        "automatic thread titling": ("yes", "the default"),
        "file upload": ("yes", "the workflow in the admin"),
        "largest file": ("5 MB", "the workflow in the settings"),
        "most files": ("10", "the default"),
        "history": ("yes", "the default"),
        "recent threads": ("unlimited", "the default"),
        "lifetime": ("600 s", "override for group Trial, valid until Dec. 1, 2026, midnight"),
        "requests a minute": ("7", "the call itself"),
        "active sessions": ("2", "override for user ada, for support only"),
        "sessions an hour": ("unlimited", "the settings"),
        "issuer": ("openai", "the default"),
        "credentials": ("the site's own", "the default"),
        "workflow id": ("wf_1", "the workflow in the settings"),
        "version": ("the latest deployment", "the default"),
        "isolate history": ("no", "the default"),
    }


@override_settings(TIME_ZONE="America/Chicago")
def test_the_end_of_an_override_is_told_in_the_operators_time(site: Site) -> None:
    until = datetime(2026, 12, 1, 6, tzinfo=UTC)
    PolicyOverride.objects.create(user=site.user, expires_after=60, valid_until=until)
    words = {label: source for label, _value, source in describe_policy(site.resolve().as_json())}
    assert words["lifetime"] == "override for user ada, valid until Dec. 1, 2026, midnight"


@pytest.mark.parametrize(("name", "words"), [("version", "the latest deployment"), ("name", "none")])
def test_an_empty_value_is_told_in_words(name: str, words: str) -> None:
    stored = {name: {"value": "", "layer": "workflow"}}
    assert [value for _label, value, _source in describe_policy(stored)] == [words]


def test_state_variables_are_told_by_name() -> None:
    record = {"digest": "0" * 64, "names": {"tier": "argument", "page": "browser"}}
    stored = {"state_variables": {"value": record, "layer": "argument"}}
    assert describe_policy(stored) == [("state variables", "tier, page", "the call itself")]


def test_the_same_decision_from_another_layer_is_the_same_policy(site: Site) -> None:
    site.say(Layer.WORKFLOW_SETTING, "expires_after", 120)
    resolved = site.resolve()
    stored = resolved.as_json()
    moved = {**stored, "expires_after": {"value": 120, "layer": "user_override", "source": {"override": 1}}}
    assert resolved.is_same_as(moved)
    assert not resolved.is_same_as({**stored, "expires_after": {"value": 121, "layer": "workflow_setting"}})
    assert not resolved.is_same_as({name: item for name, item in stored.items() if name != "version"})


def test_the_defaults_are_those_of_the_settings() -> None:
    # The cascade's lowest layer says what a site without settings does.
    assert Settings().max_sessions_per_hour == DEFAULTS["max_sessions_per_hour"]
    assert Settings().max_active_sessions is DEFAULTS["max_active_sessions"]


def test_credentials_decide_which_key_is_sent(site: Site) -> None:
    credentials = {
        "eu": {"API_KEY": "sk-eu", "ORGANIZATION": "org-eu", "PROJECT": "proj-eu"},
        "us": {"API_KEY": "sk-us"},
        "ours": {"PROJECT": "proj-ours"},
    }
    workflows = {
        "default": {"id": "wf_site"},
        **{name: {"id": f"wf_{name}", "credentials": name} for name in credentials},
        "moved": {"id": "wf_moved", "credentials": "us"},
    }
    Workflow.objects.create(slug="moved", credentials="eu")
    with StandIn() as api:
        here = {name: {**given, "BASE_URL": api.base_url} for name, given in credentials.items()}
        with pointed_at(
            StandIn(),
            API_KEY="sk-site",
            ORGANIZATION="org-site",
            PROJECT="proj-site",
            BASE_URL=api.base_url,
            CREDENTIALS=here,
            WORKFLOWS=workflows,
        ):
            for slug in workflows:
                issue_session(user=site.user, workflow=slug)
        sent = {
            request.json["workflow"]["id"]: (
                request.bearer,
                request.headers.get("openai-organization"),
                request.headers.get("openai-project"),
            )
            for request in api.requests
        }
    assert sent == {
        "wf_site": ("sk-site", "org-site", "proj-site"),
        "wf_eu": ("sk-eu", "org-eu", "proj-eu"),
        "wf_us": ("sk-us", None, None),
        "wf_ours": ("sk-site", "org-site", "proj-ours"),
        "wf_moved": ("sk-eu", "org-eu", "proj-eu"),
    }


def test_credentials_that_are_gone_are_named(standin: StandIn, user: User) -> None:
    Workflow.objects.create(slug="default", credentials="gone")
    with pytest.raises(NotConfigured) as refused:
        issue_session(user=user)
    assert str(refused.value) == "Add the credentials 'gone' to CREDENTIALS in CHATKIT_SESSIONS."
    assert standin.requests == []

from collections.abc import Iterator

import openai
import pytest
from openai.types.beta.chatkit import ChatSession

from chatkit_sessions.standin import Fault, StandIn, items


@pytest.fixture(params=["/v1", ""], ids=["with /v1", "without"])
def client(request: pytest.FixtureRequest, api: StandIn) -> Iterator[openai.OpenAI]:
    base_url = api.base_url.removesuffix("/v1") + request.param
    with openai.OpenAI(
        api_key="sk-test", base_url=base_url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_it_creates_and_cancels(api: StandIn, client: openai.OpenAI) -> None:
    session = client.beta.chatkit.sessions.create(
        user="ada",
        workflow={"id": "wf_1", "version": "3", "state_variables": {"a": "b", "n": 1, "f": 0.5, "t": True}},
        chatkit_configuration={"file_upload": {"enabled": True, "max_file_size": 1, "max_files": 1}},
        expires_after={"anchor": "created_at", "seconds": 1},
        rate_limits={"max_requests_per_1_minute": 1},
    )
    assert isinstance(session, ChatSession)
    assert session.model_dump() == api.sessions[session.id]
    assert api.requests[0].headers["openai-beta"] == "chatkit_beta=v1"
    cancelled = client.beta.chatkit.sessions.cancel(session.id)
    assert (cancelled.status, cancelled.client_secret) == ("cancelled", "")


def test_it_reads_and_deletes_threads(api: StandIn, client: openai.OpenAI) -> None:
    ids = [api.add_thread(user="ada", items=items.one_of_each())["id"] for _ in range(5)]
    api.add_thread(user="bob", status="closed")
    found = client.beta.chatkit.threads.list(user="ada", limit=2, order="asc")
    assert [thread.id for thread in found] == ids
    assert len(api.requests) == 3
    thread = client.beta.chatkit.threads.retrieve(ids[0])
    assert thread.model_dump() == api.threads[ids[0]]
    deleted = client.beta.chatkit.threads.delete(ids[0])
    assert (deleted.id, deleted.deleted) == (ids[0], True)
    assert ids[0] not in api.threads


@pytest.mark.parametrize("status", ["active", "locked", "closed"])
def test_it_reads_every_status(api: StandIn, client: openai.OpenAI, status: str) -> None:
    thread = client.beta.chatkit.threads.retrieve(api.add_thread(user="ada", status=status)["id"])
    assert thread.status.type == status


def test_it_reads_items_of_all_six_types(api: StandIn, client: openai.OpenAI) -> None:
    thread = api.add_thread(user="ada", items=items.one_of_each())["id"]
    found = list(client.beta.chatkit.threads.list_items(thread, limit=4, order="asc"))
    assert [item.model_dump() for item in found] == api.items(thread)
    assert len({type(item) for item in found}) == 6


def test_its_errors_carry_what_the_api_said(api: StandIn, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.beta.chatkit.sessions.create(user="", workflow={"id": "wf_1"})
    assert (refused.value.param, refused.value.code) == ("user", "string_below_min_length")
    assert str(refused.value.request_id).startswith("req_")
    with pytest.raises(openai.NotFoundError, match="Thread with id 'cthr_no' not found"):
        client.beta.chatkit.threads.retrieve("cthr_no")
    api.misbehave(Fault(status=429))
    with pytest.raises(openai.RateLimitError):
        client.beta.chatkit.threads.list()
    api.misbehave(Fault(drop=True))
    with pytest.raises(openai.APIConnectionError):
        client.beta.chatkit.threads.list()

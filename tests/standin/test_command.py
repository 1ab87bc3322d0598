import os
import signal
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from chatkit_sessions.standin import StandIn


def stop(api: StandIn) -> None:
    assert api.base_url  # it is being served by now
    raise KeyboardInterrupt


def test_it_says_where_it_is_and_ends_with_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = []

    def note(api: StandIn) -> None:
        urls.extend([api.base_url, api.script_url])
        assert list(api.threads) == ["cthr_123"]
        stop(api)

    monkeypatch.setattr(StandIn, "wait", note)
    out = StringIO()
    call_command("chatkit_standin", port=0, examples=True, stdout=out)
    base_url, script_url = urls
    text = out.getvalue()
    assert f"The stand-in ChatKit API is at {base_url}\n" in text
    assert f'    "BASE_URL": "{base_url}",\n' in text
    assert text.endswith("Quit with Ctrl-C.\n\nThe stand-in has stopped.\n")
    start = text.index("CHATKIT_SESSIONS = ")
    lines = text[start : text.index("\n}", start) + 2]
    settings: dict[str, object] = {}
    exec(lines, settings)  # noqa: S102 (the printed lines must be Python that works as it stands)
    assert settings["CHATKIT_SESSIONS"] == {
        "API_KEY": "sk-standin",
        "BASE_URL": base_url,
        "CHATKIT_JS_URL": script_url,
        "WORKFLOWS": {"default": {"id": "wf_standin"}},
    }


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("chatkit_standin", port=port)
    assert str(refused.value) == f"--port {port} is no port: choose one from 0 (any free one) to 65535."


def test_a_port_in_use_is_refused(api: StandIn) -> None:
    port = int(api.base_url.removesuffix("/v1").rpartition(":")[2])
    with pytest.raises(CommandError) as refused:
        call_command("chatkit_standin", port=port)
    assert str(refused.value) == (
        f"Port {port} on 127.0.0.1 is in use: stop what listens there, or choose another port with --port "
        "(0 takes any free one)."
    )


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(
        CommandError, match=r"^Cannot listen on 192\.0\.2\.1 port 0 \(.+\): choose an address"
    ):
        call_command("chatkit_standin", host="192.0.2.1", port=0)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent another way there")
def test_a_process_of_its_own_ends_cleanly() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "django", "chatkit_standin", "--port", "0"]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("The stand-in ChatKit API is at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        try:
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    assert rest.endswith("The stand-in has stopped.\n")

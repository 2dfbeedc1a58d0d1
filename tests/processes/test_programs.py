"""`agorio serve` and `agorio agent` as their users meet them: what is wrong is said in a line, and they end well."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from agorio import EV_TEXT, HubClient, Passport, WsLink
from tests.commands.processes import GIVE_UP_AFTER, Program, agorio, url_in, write_agents

pytestmark = pytest.mark.slow
Start = Callable[..., Program]
NOWHERE = "ws://127.0.0.1:9"

STAFF = """
import pathlib
import trio

GO = pathlib.Path(__file__).with_name("go")

async def echo(text: str) -> str:
    return f"echo {text}"

async def patient(text: str) -> str:
    print("begun", flush=True)
    while not GO.exists():
        await trio.sleep(0.01)
    return "done"

def make():
    raise RuntimeError("no model is configured")

class Blocking:
    name = "blocking"
    def ask(self, text: str) -> str:
        return text
"""


async def in_thread(fn: Callable[..., Any], *args: object) -> Any:
    return await trio.to_thread.run_sync(partial(fn, *args))


def wait_error(program: Program, part: str) -> None:
    """Wait until a line with `part` in it is on its standard error."""
    until = time.monotonic() + GIVE_UP_AFTER
    while not any(part in line for line in program.errors):
        assert time.monotonic() < until, program.errors
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("module", "target", "said"),
    [
        ("raise ValueError('no key is set')", "wrong:agent", "importing it failed: ValueError: no key is set ("),
        ("def agent(:", "wrong:agent", "importing it failed: SyntaxError: "),
        ("import none_such", "wrong:agent", "No module named 'none_such'"),
        (STAFF, "wrong:make", "making an agent failed: RuntimeError: no model is configured ("),
        (STAFF, "wrong:Blocking", "is not async; write `async def`"),
        (STAFF, "wrong:GO", "is no agent"),
        ("class Nameless:\n    async def ask(self, text): ...", "wrong:Nameless", "give it one with --name"),
    ],
)
def test_an_agent_that_cannot_be_made(tmp_path: Path, module: str, target: str, said: str) -> None:
    (tmp_path / "wrong.py").write_text(module, encoding="utf-8")
    done = agorio("agent", target, "--hub", NOWHERE, "--app-dir", tmp_path, code=2)
    assert said in done.stderr
    assert done.stderr.startswith("agorio agent: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "a name"], "name"),
        (["--concurrency", "0"], "concurrency"),
        (["--secret-file", "none"], "none: No such file"),
        (["--ca", "none"], "No such file"),
        (["--secret-file", "a", "--token-file", "b"], "give one of them"),
    ],
)
def test_an_agent_with_wrong_options(tmp_path: Path, options: list[str], said: str) -> None:
    app = write_agents(tmp_path, STAFF)
    done = agorio("agent", "staff:echo", "--hub", NOWHERE, "--app-dir", app, *options, code=2)
    assert said in done.stderr


def test_a_hub_that_cannot_listen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = agorio("serve", "--port", port, code=2)
        assert done.stderr == f"agorio serve: 127.0.0.1, port {port}: Address already in use\n"
    done = agorio("serve", "--host", "no-such-host.invalid", "--port", 0, code=2)
    assert "no-such-host.invalid, port 0: " in done.stderr
    (tmp_path / "file").write_text("")
    done = agorio("serve", "--store", tmp_path / "file" / "hub.db", "--port", 0, code=2)
    assert str(tmp_path / "file") in done.stderr


def test_a_store_that_is_in_use(start: Start, tmp_path: Path) -> None:
    start("serve", "--store", tmp_path / "hub.db", "--port", 0).wait_line("a hub at")
    done = agorio("serve", "--store", tmp_path / "hub.db", "--port", 0, code=2)
    assert "hub.db" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made for this test."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_certificates_that_do_not_do(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    locked, other = tmp_path / "locked.pem", tmp_path / "other.pem"
    change = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", str(key), "-out", str(locked)]
    subprocess.run(change, check=True, capture_output=True)
    other.write_text("no certificate at all")
    for files, said in (
        ((tmp_path / "none", key), f"{tmp_path / 'none'}: No such file or directory"),
        ((cert, tmp_path / "none"), f"{tmp_path / 'none'}: No such file or directory"),
        ((other, key), "are no certificate with its key"),
        ((cert, cert), "are no certificate with its key"),
        ((cert, locked), "is encrypted"),
    ):
        done = agorio("serve", "--port", 0, "--tls-cert", files[0], "--tls-key", files[1], code=2)
        assert said in done.stderr


def test_tls_for_real(certificate: tuple[Path, Path], start: Start, tmp_path: Path) -> None:
    cert, key = certificate
    app = write_agents(tmp_path, STAFF)
    url = url_in(start("serve", "--port", 0, "--tls-cert", cert, "--tls-key", key).wait_line("a hub at"))
    assert url.startswith("wss://")
    agent = start("agent", "staff:echo", "--hub", url, "--app-dir", app, "--ca", cert)
    agent.wait_line("echo is at")
    assert agorio("health", "--hub", url, "--ca", cert).stdout.startswith("ok: ")
    assert "certificate" in agorio("health", "--hub", url, code=1).stderr
    assert agorio("health", "--hub", url.replace("wss", "ws"), "--timeout", 2, code=1).stderr.count("\n") == 1

    async def ask() -> str:
        trusted = ssl.create_default_context(cafile=str(cert))
        async with HubClient(WsLink(url, ssl_context=trusted)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            return (await (await alice.open(type="consulting", target="echo")).ask("hello")).text

    assert trio.run(ask) == "echo hello"
    assert agent.stop() == 0


def test_a_turn_in_hand_is_finished(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, STAFF)
    hub = start("serve", "--port", 0, "--store", tmp_path / "hub.db")
    url = url_in(hub.wait_line("a hub at"))

    async def talk() -> str:
        agent = await in_thread(start, "agent", "staff:patient", "--hub", url, "--app-dir", app)
        await in_thread(agent.wait_line, "patient is at")
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            session = await alice.open(type="consulting", target="patient")
            await session.send("take your time")
            await in_thread(agent.wait_line, "begun")
            agent.process.send_signal(signal.SIGTERM)
            await in_thread(wait_error, agent, "draining")
            (tmp_path / "go").touch()
            assert await in_thread(agent.process.wait, GIVE_UP_AFTER) == 0
            reply = await alice.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TEXT)
            return reply.text

    assert trio.run(talk) == "done"
    assert hub.stop(signal.SIGINT) == 130
    assert hub.errors == ["agorio serve: draining"]


def test_a_second_signal_waits_for_nobody(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, STAFF)
    url = url_in(start("serve", "--port", 0).wait_line("a hub at"))
    agent = start("agent", "staff:patient", "--hub", url, "--app-dir", app)
    agent.wait_line("patient is at")

    async def talk() -> None:
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            session = await alice.open(type="consulting", target="patient")
            await session.send("take your time")
            await in_thread(agent.wait_line, "begun")

    trio.run(talk)
    agent.process.send_signal(signal.SIGTERM)
    wait_error(agent, "draining")
    assert agent.stop() == 0
    assert not (tmp_path / "go").exists()


def test_health_under_load(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, STAFF)
    url = url_in(start("serve", "--port", 0, "--store", tmp_path / "hub.db").wait_line("a hub at"))
    start("agent", "staff:echo", "--hub", url, "--app-dir", app).wait_line("echo is at")
    answers: list[dict[str, Any]] = []

    async def flood() -> None:
        async with HubClient(WsLink(url)) as hc, trio.open_nursery() as nursery:
            alice = await hc.register(None, Passport("alice"), handler=ignore)
            session = await alice.open(type="conversation", target="echo")

            async def talk() -> None:
                while True:
                    await session.send("more")

            for _ in range(20):
                nursery.start_soon(talk)
            for _ in range(2):
                answers.append(json.loads((await in_thread(agorio, "health", "--hub", url, "--json")).stdout))
            nursery.cancel_scope.cancel()

    async def ignore(envelope: object) -> None:
        """Alice only talks."""

    trio.run(flood)
    assert [one["ok"] for one in answers] == [True, True]


CANARY = "canary-4711-do-not-tell"


def test_no_secret_is_printed_or_kept(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, STAFF)
    key, store = "k-" + CANARY * 2, tmp_path / "kept" / "hub.db"
    token = jwt.encode({"sub": "tess", "exp": 2**33}, key, algorithm="HS256")
    files = {
        "hub.toml": f"[store]\npath = '{store}'\n[listen]\nport = 0\n[auth]\nhmac_secrets = 'secrets.toml'\n"
        "[auth.jwt]\nkey_file = 'key'\n",
        "secrets.toml": f'echo = "{CANARY}"\n',
        "key": key,
        "right": CANARY,
        "wrong": CANARY + "-not",
        "token": token,
        "bad-token": token[:-4] + "AAAA",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    hub = start("serve", "--config", tmp_path / "hub.toml")
    url = url_in(hub.wait_line("a hub at"))
    agents = []
    for name, flag, file in (("echo", "--secret-file", "right"), ("tess", "--token-file", "token")):
        options = (flag, tmp_path / file, "--name", name)
        agents.append(start("agent", "staff:echo", "--hub", url, "--app-dir", app, *options))
        agents[-1].wait_line(f"{name} is at")
    said = []
    for name, flag, file in (("echo", "--secret-file", "wrong"), ("tess", "--token-file", "bad-token")):
        command = ("agent", "staff:echo", "--hub", url, "--app-dir", app, "--name", name, flag, tmp_path / file)
        said.append(agorio(*command, code=2).stderr)
        assert "do not prove" in said[-1]
    for program in (*agents, hub):
        assert program.stop() == 0
        said += program.errors
    said.append(agorio("audit", store, "--json").stdout)
    printed = "\n".join(said)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "kept").iterdir())
    for secret in (CANARY, key, token, token.rpartition(".")[2]):
        assert secret not in printed
        assert secret.encode() not in kept
    assert kept

"""The newsroom in processes: the same digest, also when one of them is killed in the middle of a turn."""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs
import pytest
import trio

from agorio import Hub, MemoryKnowledgeStore, serve_ws
from agorio.demo.main import quiet_end
from agorio.demo.network import publish
from agorio.demo.processes import Agency, NotStarted, employed
from tests.demo.test_network import LOG, MAIL, digest, options, screen

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "mail.md").write_text(MAIL)
    (texts / "log.md").write_text(LOG)
    (texts / "empty.md").write_text("")
    return texts


async def test_a_killed_process_costs_nothing(folder: Path) -> None:
    assert await publish(options(folder), screen()[0]) == 0
    expected = await digest(folder)
    shown, text = screen()
    wanted = attrs.evolve(options(folder, crash=True), processes=True)
    with trio.fail_after(120):
        assert await publish(wanted, shown) == 0
    assert "reader-2 is process" in text()
    assert text().count("has ended (killed by signal 9)") == 1
    assert text().count("checker is process") == 2
    assert "6 questions asked, 6 answered: nothing was lost" in text()
    assert await digest(folder) == expected


async def test_everybody_goes_home(folder: Path) -> None:
    shown, text = screen()
    with trio.fail_after(120):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            async with employed(f"ws://127.0.0.1:{server.port}", 1, shown) as names:
                assert names == ("reader-1",)
                assert {info.name: info.connected for info in hub.agents()} == {"reader-1": True, "checker": True}
            while any(info.connected for info in hub.agents()):
                await trio.lowlevel.checkpoint()
    pids = re.findall(r"is process (\d+)", text())
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


async def test_an_agent_that_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agency = Agency("ws://127.0.0.1:9", screen()[0], tmp_path, {"PATH": "", "PYTHONPATH": ""})
    with (
        trio.fail_after(120),
        pytest.raises(NotStarted, match=r"did not start: agorio agent: agorio\.demo\.staff:nobody"),
    ):
        await agency.employ("eve", "nobody", [])
    assert quiet_end(BaseExceptionGroup("x", [NotStarted("eve did not start")])) == 1
    assert capsys.readouterr().err == "agorio demo: eve did not start; no digest was written\n"

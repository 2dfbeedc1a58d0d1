"""The hub's TOML file: strict, and errors name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from agorio.commands.config import read_config
from agorio.commands.running import CommandError
from tests.commands.processes import agorio


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listen]\nprot = 1\n", "listen.prot is no known key"),
        ("[liste]\nport = 1\n", "liste is no known key"),
        ("[auth.jwt]\nalgorithms = ['HS256']\n", "auth.jwt.key_file is missing"),
        ("[listen]\nport = '1'\n", "listen.port: Expected int, got str"),
        ("[store]\ndurability = 'some'\n", "store.durability: Invalid enum value 'some'"),
        ("[listen\n", "hub.toml: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    with pytest.raises(CommandError) as caught:
        read_config(path)
    assert said in str(caught.value)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("[store]\npath = 'a.db'\n[tls]\ncert = 'c.pem'\nkey = '/k.pem'\n[auth.jwt]\nkey_file = 'key'\n")
    config = read_config(path)
    assert config.store.path == str(tmp_path / "a.db")
    assert config.tls is not None
    assert (config.tls.cert, config.tls.key) == (str(tmp_path / "c.pem"), "/k.pem")
    assert config.auth.jwt is not None
    assert config.auth.jwt.key_file == str(tmp_path / "key")


def test_serve_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("[auth]\nhmac_secrets = 'secrets.toml'\n")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('bob = "s3cret"\n')
    secrets.chmod(0o644)
    cases: list[tuple[list[object], str]] = [
        (["--config", path], "others may read it"),
        (["--port", "70000"], "must be between 0 and 65535"),
        (["--tls-cert", "c.pem"], "belong together"),
        (["--host", "0.0.0.0", "--port", "0"], "admits agents without proof"),
        (["--config", tmp_path / "no.toml"], "No such file"),
    ]
    for args, said in cases:
        done = agorio("serve", *args, code=2)
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert "s3cret" not in done.stderr

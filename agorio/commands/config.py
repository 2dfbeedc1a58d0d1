"""What a hub on a network is told in its TOML file. Pure but for reading files.

Unknown keys are refused: an option that is misspelt must not be taken for one that was never given.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from .running import CommandError


class Store(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[store]`"""

    path: str | None = None
    """The file; without one everything is kept in memory and ends with the program."""
    durability: Literal["full", "relaxed"] = "full"
    """`relaxed` may lose the last commits with the power."""


class Listen(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[listen]`"""

    host: str = "127.0.0.1"
    """The address."""
    port: int = 8765
    """The port; 0 takes a free one."""
    origins: tuple[str, ...] = ()
    """Web pages whose browsers may connect."""
    allow_unauthenticated: bool = False
    """Whether agents without proof may come from other machines."""


class Tls(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[tls]`"""

    cert: str
    """The certificate chain, PEM."""
    key: str
    """Its private key, PEM."""


class Jwt(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[auth.jwt]`"""

    key_file: str
    """The shared secret or the public key."""
    algorithms: tuple[str, ...] = ("HS256",)
    """What a token may be signed with."""
    issuer: str | None = None
    """The `iss` that a token must have."""
    audience: str | None = None
    """The `aud` that a token must have."""
    leeway: float = 0.0
    """Seconds that the signer's clock may differ."""


class Auth(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[auth]`: without any, everybody is believed, and only this machine is served."""

    hmac_secrets: str | None = None
    """A TOML file of `name = "secret"`, readable by its owner only."""
    jwt: Jwt | None = None
    """Tokens."""


class Retention(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[retention]`: without it the store keeps everything."""

    archive: str | None = None
    """The folder of the archive; without one, `.archive` is added to the store's path."""
    archive_after: str | float | None = None
    """Sessions that ended so long ago are archived, such as `"30d"`."""
    audit_keep: int | None = None
    """About so many audit records stay in the store; older ones are archived."""
    interval: float = 3600.0
    """Seconds between sweeps."""


class Intervals(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[intervals]`, in seconds; 0 turns a sweeper off."""

    ttl_sweep: float = 30.0
    """Between sweeps for sessions that are out of time."""
    expectation_sweep: float = 10.0
    """Between sweeps for expectations that were not met."""
    invite_ack_timeout: float = 30.0
    """For an invitation to be answered."""
    grace: float = 5.0
    """For work in hand when the hub ends."""


class Health(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[health]`: without it there is no health endpoint; `agorio health` asks the agents' port."""

    port: int
    """The port of the HTTP endpoint; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Its address. Whoever can reach it learns whether the hub is well."""


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file."""

    store: Store = Store()
    listen: Listen = Listen()
    tls: Tls | None = None
    auth: Auth = Auth()
    intervals: Intervals = Intervals()
    retention: Retention | None = None
    health: Health | None = None


def read_config(path: Path) -> Config:
    """The file's content; relative paths in it are relative to it. Raises `CommandError` naming the key at fault."""
    data = read_toml(path)
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as exc:
        raise CommandError(f"{path}: {_said_of(str(exc))}") from exc
    return _placed(config, path.absolute().parent)


def read_toml(path: Path) -> dict[str, Any]:
    """Any TOML file. Raises `CommandError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise CommandError(f"{path}: {exc}") from exc


def _said_of(message: str) -> str:
    """msgspec's words with the key in front: ``Expected `int`, got `str` - at `$.listen.port` ``."""
    what, _, where = message.partition(" - at ")
    place = where.strip("`").removeprefix("$").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    if unknown:
        return f"{'.'.join(filter(None, (place, unknown[1])))} is no known key"
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing:
        return f"{'.'.join(filter(None, (place, missing[1])))} is missing"
    return f"{place}: {what.replace('`', '')}"


def _placed(config: Config, folder: Path) -> Config:
    def at(path: str | None) -> str | None:
        return None if path is None else str(folder / path)

    replace = msgspec.structs.replace
    auth = replace(config.auth, hmac_secrets=at(config.auth.hmac_secrets))
    if auth.jwt is not None:
        auth = replace(auth, jwt=replace(auth.jwt, key_file=at(auth.jwt.key_file)))
    tls = None if config.tls is None else replace(config.tls, cert=at(config.tls.cert), key=at(config.tls.key))
    kept = config.retention
    kept = None if kept is None else replace(kept, archive=at(kept.archive))
    store = replace(config.store, path=at(config.store.path))
    return replace(config, store=store, tls=tls, auth=auth, retention=kept)

"""`agorio serve`: a hub on a network, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import os
import ssl
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import trio

from ..hub.auth import AuthAdapter, AuthRegistry
from ..hub.auth_hmac import HmacAuth
from ..hub.auth_jwt import JwtAuth
from ..hub.hub import Hub
from ..hub.retention import Retention
from ..hub.stores.disk import DiskKnowledgeStore
from ..hub.stores.disk_file import beside
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import KnowledgeStore
from ..hub.websocket import serve_ws
from ..transports.websocket_server import WebsocketServer
from .config import Auth, Config, Health, Listen, Tls, read_config, read_toml
from .health_endpoint import open_health
from .running import CommandError, complain, run_async
from .signals import Stop, announce, run_until_stopped


def run(args: argparse.Namespace) -> int:
    """Run a hub."""
    return run_async("serve", serve, args)


async def serve(args: argparse.Namespace) -> int:
    """Run a hub until it is told to stop. If cancelled: it drains within its grace."""
    config = configured(args)
    return await run_until_stopped(partial(_serve, config, args.ready_file))


def configured(args: argparse.Namespace) -> Config:
    """The file's settings, the command line's before them. Raises `CommandError`."""
    config = Config() if args.config is None else read_config(args.config)
    replace = msgspec.structs.replace
    if args.store is not None:
        config = replace(config, store=replace(config.store, path=str(args.store)))
    given = {name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None}
    config = replace(config, listen=replace(config.listen, **given))
    if not 0 <= config.listen.port <= 65535:
        raise CommandError(f"port {config.listen.port}: must be between 0 and 65535")
    if (args.tls_cert is None) != (args.tls_key is None):
        raise CommandError("--tls-cert and --tls-key belong together")
    return config if args.tls_cert is None else replace(config, tls=Tls(str(args.tls_cert), str(args.tls_key)))


async def _serve(config: Config, ready_file: Path | None, stop: Stop) -> None:
    context = tls_context(config.tls)
    store, auth = open_for(config), auth_registry(config.auth)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            Hub.open(store, auth=auth, retention=retention_of(config), **_intervals(config))
        )
        server = await _listen(stack, hub, config.listen, context)
        url = url_of(server.addresses[0], is_secure=context is not None)
        kept = f"in {config.store.path}" if config.store.path else "in memory, nothing outlives this program"
        if config.health is not None:
            await _answer_for(stack, hub, config.health)
        announce(f"agorio: a hub at {url}, kept {kept}", ready_file, url)
        for reason in hub.health().reasons:
            complain("serve", reason)
        await stop.asked.wait()
        complain("serve", "draining")


async def _listen(stack: AsyncExitStack, hub: Hub, listen: Listen, context: ssl.SSLContext | None) -> WebsocketServer:
    options: dict[str, Any] = {
        "ssl_context": context,
        "origins": listen.origins,
        "allow_unauthenticated": listen.allow_unauthenticated,
    }
    try:
        return await stack.enter_async_context(serve_ws(hub, listen.host, listen.port, **options))
    except OSError as exc:
        raise CommandError(f"{listen.host}, port {listen.port}: {exc.strerror}") from exc


async def _answer_for(stack: AsyncExitStack, hub: Hub, health: Health) -> None:
    """Open the health endpoint; it answers until the hub has drained its connections, and ends before the hub."""
    nursery = await stack.enter_async_context(trio.open_nursery())
    stack.callback(nursery.cancel_scope.cancel)
    try:
        port = await open_health(nursery, hub, health.host, health.port)
    except OSError as exc:
        raise CommandError(f"health: {health.host}, port {health.port}: {exc.strerror}") from exc
    print(f"agorio: its health at http://{health.host}:{port}/health", flush=True)


def open_for(config: Config) -> KnowledgeStore:
    """The store that the settings name."""
    if config.store.path is None:
        return MemoryKnowledgeStore()
    return DiskKnowledgeStore(config.store.path, durability=config.store.durability)


def retention_of(config: Config) -> Retention | None:
    """What is archived and where; an archive that is there is read from all the same. Raises `CommandError`."""
    path, kept = config.store.path, config.retention
    if path is None:
        if kept is not None:
            raise CommandError("[retention] needs a store on disk: give store.path or --store")
        return None
    folder = beside(Path(path), ".archive") if kept is None or kept.archive is None else Path(kept.archive)
    if kept is None:
        return Retention(folder, interval=0) if folder.is_dir() else None
    return Retention(folder, kept.archive_after, kept.audit_keep, kept.interval)


def _intervals(config: Config) -> dict[str, Any]:
    intervals = config.intervals
    return {
        "ttl_sweep_interval": intervals.ttl_sweep,
        "expectation_sweep_interval": intervals.expectation_sweep,
        "invite_ack_timeout": intervals.invite_ack_timeout,
        "grace": intervals.grace,
    }


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """The server's side of TLS. Raises `CommandError` for files that do not do."""
    if tls is None:
        return None
    for path in (tls.cert, tls.key):
        _check_readable(Path(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=partial(_no_password, tls.key))
    except OSError as exc:  # an `ssl.SSLError` is one
        raise CommandError(f"{tls.cert} and {tls.key} are no certificate with its key: {exc.strerror}") from exc
    return context


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc


def _no_password(key: str) -> str:
    """Asked at the terminal it would have a service wait for somebody who is not there."""
    raise CommandError(f"{key} is encrypted; a hub takes a key without a passphrase, readable by its owner only")


def auth_registry(auth: Auth) -> AuthRegistry | None:
    """How identities are proven; None for not at all."""
    adapters: list[AuthAdapter] = []
    if auth.hmac_secrets is not None:
        adapters.append(HmacAuth(_secrets(Path(auth.hmac_secrets))))
    if auth.jwt is not None:
        jwt = auth.jwt
        key = read_secret(Path(jwt.key_file))
        adapters.append(
            JwtAuth(key, algorithms=jwt.algorithms, issuer=jwt.issuer, audience=jwt.audience, leeway=jwt.leeway)
        )
    return AuthRegistry(adapters) if adapters else None


def _secrets(path: Path) -> dict[str, str]:
    check_private(path)
    secrets = read_toml(path)
    for name, secret in secrets.items():
        if not isinstance(secret, str) or not secret:
            raise CommandError(f"{path}: {name} must be a text that is not empty")
    return secrets


def read_secret(path: Path) -> str:
    """A file's content without the line's end. Raises `CommandError`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    if not text:
        raise CommandError(f"{path}: is empty")
    return text


def check_private(path: Path) -> None:
    """Refuse a file of secrets that others may read. Raises `CommandError`."""
    if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
        raise CommandError(f"{path}: others may read it; `chmod 600 {path}` first")


def url_of(address: tuple[Any, ...], *, is_secure: bool) -> str:
    """The address as a client writes it."""
    host = f"[{address[0]}]" if ip_address(address[0].partition("%")[0]).version == 6 else address[0]
    return f"{'wss' if is_secure else 'ws'}://{host}:{address[1]}"

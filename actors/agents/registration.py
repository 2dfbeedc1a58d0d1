"""A registration under way. It is completed inside the pump, since the agent's first delivery may be the next frame."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs

from ...mailbox.errors import InvalidInput
from ...transports.frames import ResponseFrame
from ..sessions.credentials import Credentials
from ..sessions.identity import AuthBlock, Passport, Resume
from ..sessions.operations import AuthChallenge, Register, Registered, SetWindow, Unregister
from ..sessions.rule import Rule
from .agent_client import AgentClient
from .calling import Asker, agent_name, as_handler, make_asker
from .correlation import Answer
from .human import Person
from .inbound import Handler
from .views import ViewPolicy

if TYPE_CHECKING:
    from .connection import Connection
    from .hub_client import HubClient


@attrs.define
class Registration:
    """One call of `HubClient.register`."""

    hub_client: HubClient
    """Through which client."""
    passport: Passport
    """Who it is."""
    agent: Any
    """The agent itself."""
    asker: Asker | None
    """How it is called."""
    handler: Handler | None
    """A custom handler."""
    attach_plugin: bool
    """Whether the default handler is installed without one."""
    concurrency: int
    """Turns in hand at once."""
    view: ViewPolicy | str | None
    """The agent's own view."""
    make: Callable[..., AgentClient] = AgentClient
    """What it becomes."""
    is_person: bool = False
    """Whether all its mail comes here at once, to wait for being read."""
    client: AgentClient | None = None
    """The outcome."""
    is_complete: bool = False
    """Whether the caller has taken it."""
    is_abandoned: bool = False
    """Whether the caller has given up."""

    def operation(
        self, resume: Resume | None, skill_md: str | None, rule: Rule | None, auth: AuthBlock | None, attach: bool
    ) -> Register:
        """What the hub is asked."""
        has_handler = self.handler is not None or self.attach_plugin
        window = self.concurrency if has_handler else 0
        return Register(
            self.passport,
            resume,
            skill_md,
            rule,
            auth,
            attach=attach,
            window=None if self.is_person else window,
        )

    def settle(self, outcome: Answer | Exception) -> None:
        """The hub has answered."""
        if not isinstance(outcome, ResponseFrame):
            return
        registered: Registered = outcome.result
        if self.is_abandoned:
            self._undo(registered)
            return
        self.client = self.make(
            self.hub_client,
            registered,
            agent=self.agent,
            asker=self.asker,
            handler=self.handler,
            attach_plugin=self.attach_plugin,
            concurrency=self.concurrency,
            view=self.view,
        )
        self.hub_client.adopt(self.client)

    def complete(self) -> AgentClient:
        """The caller takes the outcome."""
        assert self.client is not None, "the hub has answered"
        self.is_complete = True
        return self.client

    def leave(self) -> None:
        """The caller goes. If it goes without the outcome, what the hub may still do is taken back."""
        self.is_abandoned = not self.is_complete

    def _undo(self, registered: Registered) -> None:
        undo = SetWindow(registered.agent_id, 0) if registered.attached else Unregister(registered.agent_id)
        self.hub_client.connection.post_request(undo)


async def prove(connection: Connection, passport: Passport, credentials: Credentials | None) -> AuthBlock | None:
    """What to register with: the block that was given, or the answer to the hub's question. If cancelled: nothing."""
    if credentials is None or isinstance(credentials, AuthBlock):
        return credentials
    if not callable(credentials):
        raise InvalidInput(
            f"credentials is a {type(credentials).__name__}; pass an AuthBlock or a function of a Challenge",
            field="credentials",
        )
    scheme = getattr(credentials, "scheme", passport.auth.scheme)
    answer = credentials(await connection.request(AuthChallenge(passport.name, scheme)))
    return await answer if inspect.isawaitable(answer) else answer


def as_passport(given: Passport | Mapping[str, Any] | str, call: str) -> Passport:
    """The passport for a name, for its fields as a mapping, or for itself; `InvalidInput` says what may be passed."""
    if isinstance(given, Passport):
        return given
    if isinstance(given, str):
        return Passport(name=given)
    if not isinstance(given, Mapping):
        raise InvalidInput(
            f"passport={given!r:.80} is a {type(given).__name__}; write `{call}`, or pass a name", field="passport"
        )
    fields = dict(given)
    if isinstance(fields.get("auth"), Mapping):
        fields["auth"] = _made(AuthBlock, fields["auth"], "passport.auth")
    return cast("Passport", _made(Passport, fields, "passport"))


def _made(cls: type[Any], fields: Mapping[str, Any], path: str) -> Any:
    known = [field.name for field in attrs.fields(cls)]
    unknown = [str(name) for name in fields if name not in known]
    if unknown:
        raise InvalidInput(f"{path} has no field {', '.join(unknown)}; there are: {', '.join(known)}", field=path)
    try:
        return cls(**fields)
    except TypeError as exc:
        raise InvalidInput(f"{path} is incomplete or of the wrong type: {exc}", field=path) from exc


def prepare(
    hub_client: HubClient,
    agent: Any,
    given: Passport | Mapping[str, Any] | str | None,
    attach_plugin: bool,
    concurrency: int,
    handler: Handler | None,
    view: ViewPolicy | str | None,
) -> Registration:
    """Check what was passed to `register`, before anything is asked of the hub."""
    given = given if given is not None else Passport(name=agent_name(agent))
    passport = as_passport(given, "await hc.register(agent, Passport(name='...'))")
    if passport.kind == "human":
        raise InvalidInput("a human is registered with `await hc.register_human(passport)`", field="kind")
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidInput(f"concurrency={concurrency!r} must be a whole number of at least 1", field="concurrency")
    handler = None if handler is None else as_handler(handler)
    asker = make_asker(agent) if agent is not None else None
    return Registration(hub_client, passport, agent, asker, handler, attach_plugin, concurrency, view)


def prepare_person(
    hub_client: HubClient, given: Passport | Mapping[str, Any] | str, auto_ack_invites: bool
) -> Registration:
    """The same for a person, whatever kind the passport says."""
    make = partial(Person, auto_ack_invites=auto_ack_invites)
    human = attrs.evolve(as_passport(given, "await hc.register_human(Passport(name='...'))"), kind="human")
    return Registration(hub_client, human, None, None, None, False, 1, None, make, is_person=True)

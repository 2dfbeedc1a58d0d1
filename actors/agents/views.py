"""Views: how much of a session's log its participants are shown, and in which words. Pure.

A view says how many of the newest messages it needs (`window`), so that a short view of a long session reads little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import attrs

from ...mailbox.envelope import Envelope, visible_to
from ...mailbox.errors import InvalidInput, NotFoundError
from ..sessions.metadata import SessionMetadata
from .stream import Message


@attrs.frozen
class Scene:
    """What a view knows besides the log."""

    reader_id: str
    """Whom it is for."""
    metadata: SessionMetadata
    """The session."""
    render: Callable[[Envelope], str]
    """An envelope as text; empty where it says nothing to a reader."""
    names: Mapping[str, str]
    """Names of members by id."""
    unread: int = 0
    """How many entries of the log come before what was read; 0 where it was read from its beginning."""

    def name_of(self, agent_id: str) -> str:
        """The member's name, or its id where that is unknown."""
        return self.names.get(agent_id, agent_id)


@runtime_checkable
class ViewPolicy(Protocol):
    """A view. Any object with these two is one."""

    @property
    def window(self) -> int | None:
        """How many of the newest messages `project` needs, so that no more is read; None is all."""

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        """The log, which ends where the reader's turn begins, as messages."""


def _said(log: Iterable[Envelope], scene: Scene) -> list[tuple[Envelope, str]]:
    pairs = ((e, scene.render(e)) for e in log if visible_to(e, scene.reader_id))
    return [(envelope, text) for envelope, text in pairs if text]


def count_said(log: Iterable[Envelope], scene: Scene) -> int:
    """How many messages the envelopes make."""
    return len(_said(log, scene))


def _message(envelope: Envelope, text: str, scene: Scene, named: bool) -> Message:
    if envelope.sender_id == scene.reader_id:
        return Message("assistant", text, scene.name_of(envelope.sender_id) if named else "", envelope.envelope_id)
    if not named:
        return Message("user", text, "", envelope.envelope_id)
    name = scene.name_of(envelope.sender_id)
    return Message("user", f"[{name}]: {text}", name, envelope.envelope_id)


@attrs.frozen
class FullTranscript:
    """Everything visible, in order."""

    window: int | None = None
    """Always None: it needs the whole log."""

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        return [_message(envelope, text, scene, False) for envelope, text in _said(log, scene)]


@attrs.frozen
class NamedTranscript:
    """Everything visible, in order, with the speakers' names."""

    window: int | None = None
    """Always None: it needs the whole log."""

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        return [_message(envelope, text, scene, True) for envelope, text in _said(log, scene)]


def _check_recent(_: object, field: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{field.name}={value!r} must be at least 1", field=field.name)


@attrs.frozen
class WindowedSummary:
    """The newest messages in full, and one line that says how much lies before them."""

    recent_n: int = attrs.field(default=10, validator=_check_recent)
    """How many messages are shown."""

    @property
    def window(self) -> int:
        """How many messages it needs."""
        return self.recent_n

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        return _windowed(log, scene, self.recent_n, False)


@attrs.frozen
class NamedWindowedSummary:
    """The same with the speakers' names."""

    recent_n: int = attrs.field(default=10, validator=_check_recent)
    """How many messages are shown."""

    @property
    def window(self) -> int:
        """How many messages it needs."""
        return self.recent_n

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        return _windowed(log, scene, self.recent_n, True)


def _windowed(log: Sequence[Envelope], scene: Scene, recent_n: int, named: bool) -> list[Message]:
    said = _said(log, scene)
    earlier, recent = said[:-recent_n], said[-recent_n:]
    messages = [_message(envelope, text, scene, named) for envelope, text in recent]
    note = _note(earlier, scene, named)
    return [Message("system", note), *messages] if note else messages


def _note(earlier: list[tuple[Envelope, str]], scene: Scene, named: bool) -> str:
    if scene.unread:
        return f"[Earlier: {scene.unread + len(earlier)} entries of this session's log are not shown.]"
    if not earlier:
        return ""
    speakers = dict.fromkeys(scene.name_of(envelope.sender_id) for envelope, _ in earlier)
    whose = f" from {', '.join(speakers)}" if named else ""
    return f"[Earlier: {len(earlier)} messages{whose} are not shown.]"


MakeView: TypeAlias = Callable[[SessionMetadata], ViewPolicy]


class ViewRegistry:
    """Views by the name that a session type's manifest gives. An explicit object, one per `HubClient`."""

    def __init__(self) -> None:
        self._views: dict[str, MakeView] = {
            "full": lambda metadata: FullTranscript(),
            "windowed": lambda metadata: WindowedSummary(),
            "named": lambda metadata: NamedTranscript(),
            "named_windowed": lambda metadata: NamedWindowedSummary(max(2 * len(metadata.participants), 4)),
        }

    def register(self, name: str, view: ViewPolicy | MakeView) -> None:
        """Add or replace a view, or a function that makes one for a session."""
        if isinstance(view, ViewPolicy):
            self._views[name] = lambda metadata: view
        else:
            self._views[name] = view

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def get(self, name: str, metadata: SessionMetadata) -> ViewPolicy:
        """The view of that name for the session; `NotFoundError` lists what there is."""
        make = self._views.get(name)
        if make is None:
            known = ", ".join(sorted(self._views))
            raise NotFoundError(f"no view {name!r}; add it with `hc.views.register(name, view)`. There are: {known}")
        return make(metadata)

"""Track records: what the hub itself has seen of each agent's capabilities, one document per agent and capability.

They are no part of the agent's own document, which the registry's clerk writes: both may be written at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import attrs

from ..actors.sessions.identity import ObservedStat
from ..actors.sessions.tasks import TaskMetadata, observe
from ..mailbox.clock import Clock, iso
from ..mailbox.errors import AgorioError, InvalidInput
from .directory import Directory, Entry
from .log_writer import LogWriter
from .records import from_bytes, to_bytes
from .stores.protocol import Put

MAX_CAPABILITIES = 256

Key = tuple[str, str]
Stats = dict[Key, ObservedStat]


class TrackRecords:
    """The `observed` of all agents: as it is, and as it will be once everything submitted is durable."""

    def __init__(self, directory: Directory, writer: LogWriter, clock: Clock) -> None:
        self._directory = directory
        self._writer = writer
        self._clock = clock
        self._tails: Stats = {}

    def check(self, owner: Entry, capability: str | None) -> None:
        """Refuse a new capability where there are too many already. Raises `InvalidInput`."""
        observed = owner.resume.observed
        if capability is not None and capability not in observed and len(observed) >= MAX_CAPABILITIES:
            raise InvalidInput(
                f"{owner.name!r} has a track record in {MAX_CAPABILITIES} capabilities, the most that are kept; "
                "use one of them",
                field="capability",
            )

    def begin(self, owner: Entry, task: TaskMetadata, stats: Stats) -> Put:
        """The change that counts an ended task; `stats` remembers what it puts."""
        assert task.spec.capability is not None
        key = (owner.agent_id, task.spec.capability)
        stat = observe(self._tails.get(key) or _stat(owner, key[1]), task)
        self._tails[key] = stats[key] = stat
        return Put(_document(*key), to_bytes(stat))

    def enter(self, owner: Entry, task: TaskMetadata) -> None:
        """An end is durable: enter it into the résumé as it is now, which the registry may have replaced meanwhile."""
        capability = task.spec.capability
        if capability is not None:
            self._replace(owner, capability, observe(_stat(owner, capability), task), iso(self._clock.time()))

    def settle(self, stats: Stats) -> None:
        """A commit is durable. Where what it put counts an end whose own commit has failed, put it right."""
        for key, put in stats.items():
            owner = self._directory.get(key[0])
            if self._tails.get(key) is put:
                del self._tails[key]
            if owner is not None and key not in self._tails and _stat(owner, key[1]) != put:
                self._writer.put_lazily(_document(*key), partial(_body, owner, key[1]))

    def take_back(self, stats: Stats) -> None:
        """A commit has failed: count on from what is durable."""
        for key in stats:
            self._tails.pop(key, None)

    def forget(self, owner: Entry, capabilities: Iterable[str]) -> None:
        """An agent is being unregistered: its records go with it, those of tasks that end now included."""
        shown = {*owner.resume.observed, *capabilities}
        if shown:
            self._writer.submit(tuple(Put(_document(owner.agent_id, name), None) for name in shown), _forgotten)

    def restore(self, key: str, body: bytes) -> None:
        """Take up a stored record."""
        _, agent_id, capability = key.split("/", 2)
        owner = self._directory.get(agent_id)
        if owner is not None:
            self._replace(owner, capability, from_bytes(body, ObservedStat), owner.resume.last_updated)

    def _replace(self, owner: Entry, capability: str, stat: ObservedStat, at: str) -> None:
        observed = {**owner.resume.observed, capability: stat}
        resume = attrs.evolve(owner.resume, observed=observed, last_updated=at)
        self._directory.replace(owner, attrs.evolve(owner.stored, resume=resume))


def _stat(owner: Entry, capability: str) -> ObservedStat:
    return owner.resume.observed.get(capability) or ObservedStat()


def _body(owner: Entry, capability: str) -> bytes:
    return to_bytes(_stat(owner, capability))


def _document(agent_id: str, capability: str) -> str:
    return f"observed/{agent_id}/{capability}"


def _forgotten(error: AgorioError | None) -> None:
    """A record that could not be removed belongs to an id that is never used again."""

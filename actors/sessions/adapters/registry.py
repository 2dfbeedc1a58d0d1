"""Which session types a hub knows: an explicit object, keyed by type and version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ....mailbox.errors import InvalidInput, NotFoundError
from ..graph_codec import GraphRegistry
from ..metadata import Manifest
from .base import SessionAdapter
from .consulting import ConsultingAdapter
from .conversation import ConversationAdapter
from .discussion import DiscussionAdapter
from .workflow import WorkflowAdapter


class AdapterRegistry:
    """Session types by `(type, version)`. A running session keeps the version that it was opened with."""

    def __init__(self, adapters: Iterable[SessionAdapter] = ()) -> None:
        self._adapters: dict[tuple[str, int], SessionAdapter] = {}
        for adapter in adapters:
            self.register(adapter)

    def register(self, adapter: SessionAdapter) -> None:
        """Admit a session type. A taken `(type, version)` is refused: its running sessions would change their rules."""
        manifest = getattr(adapter, "manifest", None)
        if not isinstance(adapter, SessionAdapter) or not isinstance(manifest, Manifest):
            raise InvalidInput(f"{adapter!r} is no SessionAdapter with a Manifest as its `manifest`", field="adapter")
        key = (manifest.type, manifest.version)
        if key in self._adapters:
            raise InvalidInput(
                f"session type {manifest.type!r} version {manifest.version} is registered already; raise the version",
                field="version",
            )
        self._adapters[key] = adapter

    def get(self, session_type: str, version: int | None = None) -> SessionAdapter:
        """The adapter; without a version the newest. `NotFoundError` lists what there is."""
        if version is None:
            versions = [number for name, number in self._adapters if name == session_type]
            version = max(versions, default=0)
        adapter = self._adapters.get((session_type, version))
        if adapter is None:
            known = ", ".join(f"{name} v{number}" for name, number in sorted(self._adapters))
            wanted = f"{session_type!r}" + (f" version {version}" if version else "")
            raise NotFoundError(f"no session type {wanted} is registered; there are: {known}", type=session_type)
        return adapter

    def find(self, session_type: str, version: int) -> SessionAdapter | None:
        """The adapter of exactly this version, if there is one."""
        return self._adapters.get((session_type, version))

    def __contains__(self, session_type: object) -> bool:
        return any(name == session_type for name, _ in self._adapters)

    def __iter__(self) -> Iterator[SessionAdapter]:
        return iter(tuple(self._adapters.values()))

    def __len__(self) -> int:
        return len(self._adapters)


def default_adapters(graphs: GraphRegistry | None = None, more: Iterable[SessionAdapter] = ()) -> AdapterRegistry:
    """A new registry with `conversation`, `consulting`, `discussion`, `workflow`, and `more`.

    One of `more` takes the place of the built-in one of its type and version. `graphs` knows the conditions and targets
    of the built-in `workflow`. Raises `InvalidInput`.
    """
    if graphs is not None and not isinstance(graphs, GraphRegistry):
        raise InvalidInput(f"graphs={graphs!r:.80} must be a GraphRegistry(YourCondition, YourTarget)", field="graphs")
    registry = AdapterRegistry(more)
    workflow = WorkflowAdapter(graphs)
    for built_in in (ConversationAdapter(), ConsultingAdapter(), DiscussionAdapter(), workflow):
        if registry.find(built_in.manifest.type, built_in.manifest.version) is None:
            registry.register(built_in)
    if graphs is not None and registry.find(workflow.manifest.type, workflow.manifest.version) is not workflow:
        raise InvalidInput("graphs= is for the built-in workflow; give it to your WorkflowAdapter", field="graphs")
    return registry

"""Graphs as data: plain JSON to typed values and back, strictly, with errors that say where.

cattrs does the work. Its own scalars coerce (null becomes the agent "None"), so every hook that a graph needs is
replaced by one that refuses. A registry is an explicit object: no process-wide list that two programs could fight over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from ...mailbox.errors import GraphError, InvalidInput
from ...mailbox.frozen import freeze
from .graph_conditions import BUILT_IN_CONDITIONS, Condition
from .graph_targets import BUILT_IN_TARGETS, Target

Node = Condition | Target
NodeType = TypeVar("NodeType", bound=type[Node])
T = TypeVar("T")
_KINDS: dict[type[Any], str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class GraphRegistry:
    """The types that a graph may name. It starts with the built-in ones; hand it to `WorkflowAdapter`."""

    def __init__(self, *classes: type[Node]) -> None:
        self._types: dict[tuple[type[Node], str], type[Node]] = {}
        for cls in (*BUILT_IN_CONDITIONS, *BUILT_IN_TARGETS, *classes):
            self.register(cls)
        self._converter = _strict_converter(self)

    def register(self, cls: NodeType) -> NodeType:
        """Admit a frozen attrs subclass of `Condition` or `Target`; usable as a decorator. A taken name is refused."""
        base = _base_of(cls)
        key = (base, cls.wire_name)
        if key in self._types:
            raise InvalidInput(f"a {_word(base)} named {cls.wire_name!r} is registered already", field="wire_name")
        self._types[key] = cls
        return cls

    def find(self, base: type[Node], name: str) -> type[Node] | None:
        """The registered type, if there is one."""
        return self._types.get((base, name))

    def names(self, base: type[Node]) -> tuple[str, ...]:
        """The names registered for conditions or for targets."""
        return tuple(name for kind, name in self._types if kind is base)

    def structure(self, data: Any, cls: type[T]) -> T:
        """A typed value from plain data; `GraphError` with `details["path"]` where it is not exactly right."""
        try:
            return self._converter.structure(freeze(data, "graph"), cls)
        except GraphError as exc:
            raise _located(exc) from exc
        except InvalidInput as exc:
            path = str(exc.details.get("path", "")).removeprefix("graph").lstrip(".")
            raise GraphError(exc.message, path=path) from exc


def _word(base: type[Node]) -> str:
    return "condition" if base is Condition else "target"


def _base_of(cls: type[Node]) -> type[Node]:
    for base in (Condition, Target):
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base:
            _check_node_type(cls)
            return base
    raise InvalidInput(f"{cls!r} is no subclass of Condition or Target", field="cls")


def _check_node_type(cls: type[Node]) -> None:
    frozen = "__attrs_attrs__" in vars(cls) and cls.__setattr__ is not object.__setattr__
    if not frozen:
        raise InvalidInput(f"{cls.__name__} must be decorated with attrs.frozen: graphs are data", field="cls")
    if not isinstance(cls.wire_name, str) or not cls.wire_name:
        raise InvalidInput(f"{cls.__name__} needs a wire_name, its name in graphs", field="wire_name")


def _located(exc: GraphError) -> GraphError:
    path = str(exc.details.get("path", "")).lstrip(".")
    return GraphError(f"{path or 'graph'}: {exc.message}", path=path)


def _fault(path: str, problem: str) -> GraphError:
    return GraphError(problem, path=path)


def _under(prefix: str, exc: GraphError) -> GraphError:
    """The same fault as seen from one level up."""
    inner = str(exc.details.get("path", ""))
    return _fault(prefix + (inner if inner.startswith("[") or not inner or not prefix else f".{inner}"), exc.message)


def _strict_converter(registry: GraphRegistry) -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in _KINDS:
        converter.register_structure_hook(kind, _strict_scalar)
    converter.register_structure_hook_factory(_is_tuple, lambda cls: _tuple_hook(converter, cls))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _record_hook(converter, cls))
    converter.register_structure_hook_func(_is_base, lambda data, base: _read_node(registry, converter, data, base))
    return converter


def _is_base(cls: Any) -> bool:
    return cls is Condition or cls is Target


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _strict_scalar(value: Any, kind: type[Any]) -> Any:
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise _fault("", f"must be {_KINDS[kind]}, not {json.dumps(value)[:80]}")


def _tuple_hook(converter: Converter, cls: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    item_type = get_args(cls)[0]

    def structure(data: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise _fault("", f"must be a list, not {json.dumps(data)[:80]}")
        return tuple(_at(f"[{index}]", converter, item, item_type) for index, item in enumerate(data))

    return structure


def _at(path: str, converter: Converter, data: Any, cls: Any) -> Any:
    try:
        return converter.structure(data, cls)
    except GraphError as exc:
        raise _under(path, exc) from exc


def _record_hook(converter: Converter, cls: Any) -> Callable[[Any, Any], Any]:
    generated = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True)

    def structure(data: Any, _: Any) -> Any:
        if not isinstance(data, dict):
            raise _fault("", f"must be an object, not {json.dumps(data)[:80]}")
        try:
            return generated(data, cls)
        except ClassValidationError as exc:
            raise _first_fault(exc, cls) from exc

    return structure


def _first_fault(exc: ClassValidationError, cls: Any) -> GraphError:
    """The first thing wrong with a record, as one error with a path."""
    placed, unplaced = exc.group_exceptions()
    for inner, note in placed:
        return _under(note.name, _as_fault(inner))
    for loose in unplaced:
        if isinstance(loose, ForbiddenExtraKeysError):
            known = ", ".join(field.name for field in attrs.fields(cls) if field.init) or "none"
            return _fault(min(loose.extra_fields), f"is unknown; the fields here are: {known}")
        return _as_fault(loose)
    return _fault("", str(exc))


def _as_fault(exc: BaseException) -> GraphError:
    if isinstance(exc, GraphError):
        return exc
    return _fault("", "is missing" if isinstance(exc, KeyError) else str(exc))


def _read_node(registry: GraphRegistry, converter: Converter, data: Any, base: type[Node]) -> Any:
    """`{"name": ..., "args": {...}}` to the condition or target that it names."""
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise _fault("", f"must be an object {{name, args}} that names a {_word(base)}, not {json.dumps(data)[:80]}")
    for key in data:
        if key not in ("name", "args"):
            raise _fault(key, "is unknown; the fields here are: name, args")
    cls = registry.find(base, data["name"])
    if cls is None:
        known = ", ".join(registry.names(base))
        raise _fault("name", f"no {_word(base)} named {data['name']!r} is registered; there are: {known}")
    return _at("args", converter, data.get("args", {}), cls)


def unstructure(value: Any) -> Any:
    """Plain JSON data of a graph or any part of it; needs no registry, every value knows its wire name."""
    return _plain(_WRITER.unstructure(value))


def _writer() -> Converter:
    converter = Converter()
    converter.register_unstructure_hook_func(_is_base, lambda node: converter.unstructure(node))
    converter.register_unstructure_hook_factory(_is_node_type, lambda cls: _node_writer(converter, cls))
    return converter


def _is_node_type(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Condition | Target) and not _is_base(cls)


def _node_writer(converter: Converter, cls: Any) -> Callable[[Any], dict[str, Any]]:
    write = make_dict_unstructure_fn(cls, converter)
    return lambda node: {"name": cls.wire_name, "args": write(node)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_WRITER = _writer()


def map_agents(node: Node, path: str, change: Callable[[str, str], str]) -> Any:
    """The node with every agent id in it, nested ones too, replaced by `change(path, id)`."""
    changes = {}
    for field in attrs.fields(type(node)):
        value = getattr(node, field.name)
        new = _map_field(value, f"{path}.args.{field.name}", field.name in node.agent_fields, change)
        if new != value:
            changes[field.name] = new
    return attrs.evolve(node, **changes) if changes else node


def _map_field(value: Any, path: str, is_agent: bool, change: Callable[[str, str], str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_map_field(item, f"{path}[{index}]", is_agent, change) for index, item in enumerate(value))
    if isinstance(value, Condition | Target):
        return map_agents(value, path, change)
    return change(path, value) if is_agent and isinstance(value, str) else value


def agents_in(node: Node, path: str) -> Iterator[tuple[str, str]]:
    """Every agent id that the node names, with its path."""
    found: list[tuple[str, str]] = []

    def note(where: str, agent_id: str) -> str:
        found.append((where, agent_id))
        return agent_id

    map_agents(node, path, note)
    return iter(found)

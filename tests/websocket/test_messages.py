"""Messages as the bytes of websocket frames, read back by the library that reads them on the other side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from agorio.transports.messages import text_message

MASKS = st.binary(min_size=4, max_size=4)


def read(data: bytes, side: ConnectionType) -> str:
    reader = Connection(side)
    reader.receive_data(data)
    events = [event for event in reader.events() if isinstance(event, TextMessage)]
    assert events[-1].message_finished
    return "".join(event.data for event in events)


@given(st.text(max_size=300), MASKS)
def test_what_is_written_is_read_as_it_was_on_either_side(text: str, mask: bytes) -> None:
    assert read(text_message(text.encode()), ConnectionType.CLIENT) == text
    assert read(text_message(text.encode(), mask), ConnectionType.SERVER) == text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_001])
def test_every_form_of_the_length_is_the_shortest_that_holds_it(size: int) -> None:
    text = "x" * size
    assert read(text_message(text.encode()), ConnectionType.CLIENT) == text
    assert read(text_message(text.encode(), b"\x01\x02\x03\xff"), ConnectionType.SERVER) == text


def test_a_clients_payload_is_not_on_the_wire_as_it_is() -> None:
    assert b"GET /admin" not in text_message(b"GET /admin HTTP/1.1", b"\x11\x22\x33\x44")

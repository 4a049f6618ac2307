"""Commands and their codec: what a command may hold, one encoding for each, nothing else is read."""

import pytest
from hypothesis import given, strategies as st

from walstore._log import limits
from walstore.errors import EntryTooLargeError
from walstore.kv import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Command,
    CompareAndSet,
    Delete,
    KeyValueCodec,
    Put,
)

CODEC = KeyValueCodec()
KEYS = st.binary(max_size=300)
VALUES = st.binary(max_size=300)
COMMANDS = st.one_of(
    st.builds(Put, KEYS, VALUES),
    st.builds(Delete, KEYS),
    st.builds(CompareAndSet, KEYS, st.none() | VALUES, st.none() | VALUES),
)


@given(COMMANDS)
def test_a_command_survives_the_codec(command: Command) -> None:
    """Decoding what was encoded gives an equal command."""
    assert command == CODEC.decode(CODEC.encode(command))


@given(COMMANDS, COMMANDS)
def test_different_commands_have_different_bytes(one: Command, other: Command) -> None:
    """Two commands share their bytes only if they are equal."""
    assert (CODEC.encode(one) == CODEC.encode(other)) == (one == other)


@given(st.one_of(st.binary(max_size=40), COMMANDS.map(CODEC.encode)), st.data())
def test_bytes_are_a_command_in_its_only_encoding_or_a_value_error(raw: bytes, data: st.DataObject) -> None:
    """Whatever decodes encodes to the same bytes again; everything else is ValueError, no other exception."""
    if raw and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:place] + data.draw(st.binary(max_size=3)) + raw[place + 1 :]
    try:
        command = CODEC.decode(raw)
    except ValueError:
        return
    assert raw == CODEC.encode(command)


def test_the_bytes_of_each_command() -> None:
    """The encoding is fixed: logs hold it for ever."""
    assert CODEC.encode(Put(b"key", b"value")) == b"\x01\x03\x00keyvalue"
    assert CODEC.encode(Delete(b"key")) == b"\x02\x03\x00key"
    assert CODEC.encode(CompareAndSet(b"k", b"old", b"new")) == b"\x03\x01\x00\x03\x03\x00\x00\x00koldnew"
    assert CODEC.encode(CompareAndSet(b"k", None, b"")) == b"\x03\x01\x00\x02\x00\x00\x00\x00k"
    assert CODEC.encode(CompareAndSet(b"k", b"", None)) == b"\x03\x01\x00\x01\x00\x00\x00\x00k"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01",
        b"\x01\x04\x00key",
        b"\x02\x03\x00key+",
        b"\x00\x00\x00",
        b"\x04\x00\x00",
        b"\x03\x00\x00\x00\x00\x00\x00",
        b"\x03\x00\x00\x04\x00\x00\x00\x00",
        b"\x03\x00\x00\x01\x01\x00\x00\x00",
        b"\x03\x00\x00\x02\x01\x00\x00\x00x",
        b"\x03\x00\x00\x01\x00\x00\x00\x00x",
        b"\x03\x00\x00\x03\xff\xff\xff\xffx",
    ],
    ids=lambda raw: raw.hex() or "nothing",
)
def test_what_is_not_a_command_is_refused(raw: bytes) -> None:
    """Cut, unknown, longer than it says, or against its own flags: ValueError."""
    with pytest.raises(ValueError, match=r"command|key|CompareAndSet"):
        CODEC.decode(raw)


def test_only_commands_are_encoded() -> None:
    """Anything else is a TypeError that shows it."""
    with pytest.raises(TypeError, match=r"not a command .* 'text'"):
        CODEC.encode("text")  # type: ignore[arg-type]  # the wrong type is the point


def test_keys_and_values_are_bytes_of_limited_length() -> None:
    """A wrong type is a TypeError, a wrong length an EntryTooLargeError, when the command is made."""
    with pytest.raises(TypeError, match="key must be bytes, not str"):
        Delete("key")  # type: ignore[arg-type]  # the wrong type is the point
    with pytest.raises(TypeError, match="value must be bytes, not bytearray"):
        Put(b"", bytearray())  # type: ignore[arg-type]  # the wrong type is the point
    with pytest.raises(TypeError, match="expected must be bytes, not int"):
        CompareAndSet(b"", 1, None)  # type: ignore[arg-type]  # the wrong type is the point
    with pytest.raises(EntryTooLargeError, match="key of 65536 bytes; at most 65535"):
        Put(bytes(MAX_KEY_BYTES + 1), b"")
    with pytest.raises(EntryTooLargeError, match="value of"):
        Put(b"", bytes(MAX_VALUE_BYTES + 1))


def test_the_largest_command_fits_an_entry() -> None:
    """Both values and the key at their limits stay below the limit of one entry of the log."""
    largest = CompareAndSet(bytes(MAX_KEY_BYTES), bytes(MAX_VALUE_BYTES), bytes(MAX_VALUE_BYTES))

    raw = CODEC.encode(largest)

    assert len(raw) <= limits.MAX_ENTRY_BYTES
    assert largest == CODEC.decode(raw)

"""The ready-made embedded default: a key-value machine, bytes to bytes, its commands and their codec.

The machine is read as a mapping and changed by commands, each of which answers with what was there before:

    Put(key, value)                        -> the previous value, or None
    Delete(key)                            -> the previous value, or None
    CompareAndSet(key, expected, value)    -> Swapped(swapped, previous)

How a capture is cheap at any size.  The state is a base and, on top of it, overlays: small dicts of what changed since,
None for a key that is gone; the newest layer that has a key decides.  A capture freezes all layers and puts an empty
overlay on top, whatever the size of the state.  Once the last view is closed, each `apply` moves a few keys of the
oldest overlay down into the base, so that no single call pays for all of them.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar, overload

import attrs

from .abc import Codec, SnapshotView, StateMachine
from .errors import EntryTooLargeError

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_VALUE_BYTES",
    "Answer",
    "Command",
    "CompareAndSet",
    "Delete",
    "KeyValue",
    "KeyValueCodec",
    "Put",
    "Swapped",
]

MAX_KEY_BYTES = 2**16 - 1
"""The longest key: its length is a u16 in a command and in a snapshot."""

MAX_VALUE_BYTES = 16 << 20
"""The longest value: a `CompareAndSet` carries two of them and a key, and still fits an entry of the log."""

CHUNK_BYTES = 64 << 10
"""A snapshot is written in pieces of at least this many bytes, but for the last, and at most four times as many."""

T = TypeVar("T")


def _refuse_bytes(attribute: "attrs.Attribute[Any]", value: object, longest: int) -> NoReturn:
    if not isinstance(value, bytes):
        msg = f"{attribute.name} must be bytes, not {type(value).__name__}"
        raise TypeError(msg)
    msg = f"{attribute.name} of {len(value)} bytes; at most {longest} are allowed"
    raise EntryTooLargeError(msg)


def _key(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, bytes) or len(value) > MAX_KEY_BYTES:
        _refuse_bytes(attribute, value, MAX_KEY_BYTES)


def _value(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, bytes) or len(value) > MAX_VALUE_BYTES:
        _refuse_bytes(attribute, value, MAX_VALUE_BYTES)


def _optional_value(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None:
        _value(instance, attribute, value)


@attrs.frozen
class Put:
    """Gives `key` the value `value`.  The answer is the previous value, or None."""

    key: bytes = attrs.field(validator=_key)
    value: bytes = attrs.field(validator=_value)


@attrs.frozen
class Delete:
    """Removes `key`.  The answer is the previous value, or None if there was none."""

    key: bytes = attrs.field(validator=_key)


@attrs.frozen
class CompareAndSet:
    """Gives `key` the value `value` if it has the value `expected` now; None means absent, in both places.

    The answer is `Swapped`.
    """

    key: bytes = attrs.field(validator=_key)
    expected: bytes | None = attrs.field(validator=_optional_value)
    value: bytes | None = attrs.field(validator=_optional_value)


@attrs.frozen
class Swapped:
    """The answer to a `CompareAndSet`: whether it was done, and the value before it (None: absent)."""

    swapped: bool
    previous: bytes | None


Command: TypeAlias = Put | Delete | CompareAndSet
Answer: TypeAlias = bytes | Swapped | None


def _refuse(data: object) -> NoReturn:
    msg = f"not a command of the key-value machine: {data!r}"
    raise TypeError(msg)


# A command is its kind, the length of its key, for a CompareAndSet two flags and the length of what is expected, then
# the bytes one after another; the last of them ends where the entry ends.
_PLAIN = struct.Struct("<BH")  # kind, key length
_COMPARE = struct.Struct("<BHBI")  # kind, key length, flags, length of the expected value
_PUT, _DELETE, _COMPARE_AND_SET = 1, 2, 3
_HAS_EXPECTED, _HAS_VALUE = 1, 2


class KeyValueCodec(Codec[Command]):
    """Commands as bytes: 3 bytes around the key and the value, 8 for a `CompareAndSet`.

    Every command has one encoding, and `decode` takes nothing but it.
    """

    __slots__ = ()

    def encode(self, data: Command) -> bytes:
        """The bytes of one command.  Raises TypeError for anything else."""
        if isinstance(data, Put):
            return b"".join((_PLAIN.pack(_PUT, len(data.key)), data.key, data.value))
        if isinstance(data, Delete):
            return _PLAIN.pack(_DELETE, len(data.key)) + data.key
        if isinstance(data, CompareAndSet):
            flags = _HAS_EXPECTED * (data.expected is not None) | _HAS_VALUE * (data.value is not None)
            head = _COMPARE.pack(_COMPARE_AND_SET, len(data.key), flags, len(data.expected or b""))
            return b"".join((head, data.key, data.expected or b"", data.value or b""))
        _refuse(data)

    def decode(self, buffer: bytes) -> Command:
        """The command.  Raises ValueError unless these are the bytes of exactly one."""
        kind = buffer[0] if buffer else 0
        head = _COMPARE if kind == _COMPARE_AND_SET else _PLAIN
        if len(buffer) < head.size:
            msg = f"a command of {len(buffer)} bytes is cut short"
            raise ValueError(msg)
        key_end = head.size + int.from_bytes(buffer[1:3], "little")
        if key_end > len(buffer):
            msg = f"a key that ends at byte {key_end} in a command of {len(buffer)}"
            raise ValueError(msg)
        key = bytes(buffer[head.size : key_end])
        if kind == _PUT:
            return Put(key, bytes(buffer[key_end:]))
        if kind == _COMPARE_AND_SET:
            return _decode_compare(buffer, key, key_end)
        if kind != _DELETE or key_end != len(buffer):
            msg = f"kind {kind}, {len(buffer) - key_end} bytes after the key: not a command"
            raise ValueError(msg)
        return Delete(key)


def _decode_compare(buffer: bytes, key: bytes, key_end: int) -> CompareAndSet:
    _, _, flags, expected_length = _COMPARE.unpack_from(buffer)
    expected_end = key_end + expected_length
    has_expected, has_value = bool(flags & _HAS_EXPECTED), bool(flags & _HAS_VALUE)
    if flags > _HAS_EXPECTED | _HAS_VALUE or expected_end > len(buffer):
        msg = f"flags {flags:#x}, an expected value of {expected_length} bytes in {len(buffer)}: not a CompareAndSet"
        raise ValueError(msg)
    if (expected_length and not has_expected) or (expected_end < len(buffer) and not has_value):
        msg = "a CompareAndSet with bytes of a value that its flags deny"
        raise ValueError(msg)
    return CompareAndSet(
        key,
        bytes(buffer[key_end:expected_end]) if has_expected else None,
        bytes(buffer[expected_end:]) if has_value else None,
    )


_Layer: TypeAlias = Mapping[bytes, bytes | None]


def _live_items(layers: tuple[_Layer, ...]) -> Iterator[tuple[bytes, bytes]]:
    """What the layers, oldest first, hold together: each key comes from the newest layer that has it."""
    for depth, layer in enumerate(layers, start=1):
        newer = layers[depth:]
        for key, value in layer.items():
            if value is not None and not any(key in other for other in newer):
                yield key, value


# A snapshot is the header, then for each key the lengths, the key and the value, and nothing after the last.
_MAGIC = b"WALSKV\x00\x01"
_STATE = struct.Struct("<8sQ")  # magic with the version of this layout, number of keys
_ITEM = struct.Struct("<HI")  # key length, value length


class KeyValueView(SnapshotView):
    """What a `KeyValue` held when it was captured.  Any number may be open; all are to be closed."""

    __slots__ = ("_layers", "_machine", "_size")

    def __init__(self, machine: "KeyValue", layers: tuple[_Layer, ...], size: int) -> None:
        self._machine: KeyValue | None = machine
        self._layers = layers
        self._size = size

    def chunks(self) -> Iterator[bytes]:
        """The state in pieces of `CHUNK_BYTES` or a little more."""
        piece = bytearray(_STATE.pack(_MAGIC, self._size))
        for key, value in _live_items(self._layers):
            piece += _ITEM.pack(len(key), len(value))
            piece += key
            for start in range(0, len(value), CHUNK_BYTES):
                piece += value[start : start + CHUNK_BYTES]
                if len(piece) >= CHUNK_BYTES:
                    yield bytes(piece)
                    piece.clear()
        yield bytes(piece)

    def close(self) -> None:
        """Lets the machine merge what changed since.  Silent twice."""
        machine, self._machine = self._machine, None
        self._layers = ()
        if machine is not None:
            machine._view_closed()


class _Pieces:
    """Bytes that arrive in pieces of any size, taken in lengths that the reader asks for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes.  Memory grows by what arrives, not by what is asked for."""
        end = self._at + length
        while end > len(self._buffer):
            chunk = next(self._chunks, None)
            if chunk is None:
                msg = "the state of a key-value machine is cut short"
                raise ValueError(msg)
            del self._buffer[: self._at]
            end -= self._at
            self._at = 0
            self._buffer += chunk
        taken = bytes(self._buffer[self._at : end])
        self._at = end
        return taken

    def expect_end(self) -> None:
        """Raises ValueError if any byte is left."""
        if self._at < len(self._buffer) or any(self._chunks):
            msg = "bytes after the last key of a key-value machine's state"
            raise ValueError(msg)


def _read_state(pieces: _Pieces) -> dict[bytes, bytes]:
    magic, count = _STATE.unpack(pieces.take(_STATE.size))
    if magic != _MAGIC:
        msg = f"{magic!r} does not begin the state of a key-value machine"
        raise ValueError(msg)
    state: dict[bytes, bytes] = {}
    for number in range(1, count + 1):
        key_length, value_length = _ITEM.unpack(pieces.take(_ITEM.size))
        if value_length > MAX_VALUE_BYTES:
            msg = f"a value of {value_length} bytes in a key-value machine's state"
            raise ValueError(msg)
        both = pieces.take(key_length + value_length)
        state[both[:key_length]] = both[key_length:]
        if len(state) < number:
            msg = f"key {both[:key_length]!r} stands twice in a key-value machine's state"
            raise ValueError(msg)
    pieces.expect_end()
    return state


class KeyValue(StateMachine[Command, Answer], Mapping[bytes, bytes]):
    """A state machine that maps bytes to bytes, in memory.

    Read it as any mapping, without awaiting; the order of iteration means nothing, and an iteration that meets a
    change raises RuntimeError, as a dict's does.  Change it through the log only, by the commands above.
    """

    __slots__ = ("_base", "_changes", "_open_views", "_overlays", "_size")

    merge_slice: ClassVar[int] = 64
    """How many keys an `apply` moves from an overlay to the base: some ten microseconds, and far more than it adds."""

    def __init__(self) -> None:
        self._base: dict[bytes, bytes] = {}
        self._overlays: list[dict[bytes, bytes | None]] = []  # oldest first
        self._open_views = 0
        self._size = 0
        self._changes = 0

    # --- reading

    def __getitem__(self, key: bytes) -> bytes:
        value = self._find(key)
        if value is None:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: bytes, /) -> bytes | None: ...
    @overload
    def get(self, key: bytes, /, default: bytes | T) -> bytes | T: ...
    def get(self, key: bytes, /, default: bytes | T | None = None) -> bytes | T | None:
        """The value of `key`, or `default`."""
        value = self._find(key)
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        changes = self._changes
        for key, _ in _live_items((self._base, *self._overlays)):
            yield key
            if changes != self._changes:
                msg = "the key-value machine changed during iteration"
                raise RuntimeError(msg)

    def __repr__(self) -> str:
        return f"<KeyValue of {self._size} keys>"

    def _find(self, key: Any) -> bytes | None:
        for overlay in reversed(self._overlays):
            if key in overlay:
                return overlay[key]
        return self._base.get(key)

    # --- changing

    def apply(self, index: int, data: Command) -> Answer:
        """Does one command, and answers as the command's class says."""
        if not isinstance(data, Command):
            _refuse(data)
        previous = self._find(data.key)
        if isinstance(data, CompareAndSet):
            if previous != data.expected:
                return Swapped(swapped=False, previous=previous)
            self._write(data.key, data.value, previous)
            return Swapped(swapped=True, previous=previous)
        self._write(data.key, data.value if isinstance(data, Put) else None, previous)
        return previous

    def _write(self, key: bytes, value: bytes | None, previous: bytes | None) -> None:
        self._changes += 1
        self._size += (value is not None) - (previous is not None)
        if self._open_views:
            self._overlays[-1][key] = value
            return
        for overlay in self._overlays:
            overlay.pop(key, None)
        if value is None:
            self._base.pop(key, None)
        else:
            self._base[key] = value
        if self._overlays:
            self._merge_slice()

    def _merge_slice(self) -> None:
        """The oldest overlay goes first, so that what it brings down is still covered by the newer ones."""
        oldest = self._overlays[0]
        for _ in range(min(self.merge_slice, len(oldest))):
            key, value = oldest.popitem()
            if value is None:
                self._base.pop(key, None)
            else:
                self._base[key] = value
        if not oldest:
            del self._overlays[0]

    # --- snapshots

    def capture(self) -> KeyValueView:
        """A view of the state as of now, in constant time.  Keys that change while it is open are held twice."""
        if not self._overlays or self._overlays[-1]:
            self._overlays.append({})
        self._open_views += 1
        return KeyValueView(self, (self._base, *self._overlays[:-1]), self._size)

    def _view_closed(self) -> None:
        self._open_views -= 1

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Takes the state of a view in place of its own, or raises ValueError and stays as it is."""
        state = _read_state(_Pieces(chunks))
        self._base, self._size = state, len(state)
        self._overlays = [{}] if self._open_views else []
        self._changes += 1

"""Makes checksums right again, so that mutated bytes get past them.

A mutation that only breaks a checksum tests the checksum, and that one is tested soon.  What has to be found is code
that believes a field because its checksum holds.  Each function here takes any bytes and returns bytes of the same
length with the checksums, and what else marks a place, as a writer would have set them.
"""

from walstore._log.checksum import crc
from walstore._log.frame import MAGIC_BYTES, parse_header
from walstore._log.limits import ALIGN, FRAME_HEADER, HEADER_PAGE, IDENTITY_SIZE, MAX_FRAME_BODY

CONTAINER_PAGE, CONTAINER_CHUNK, CONTAINER_FOOTER = 4096, 16, 40
FOOTER_MAGIC = b"\x89END"


def _put(buffer: bytearray, at: int, value: int) -> None:
    buffer[at : at + 4] = value.to_bytes(4, "little")


def _get(buffer: bytearray, at: int) -> int:
    return int.from_bytes(buffer[at : at + 4], "little")


def fitted(data: bytes, size: int) -> bytes:
    """The bytes cut or filled up with zeros to `size`."""
    return data[:size].ljust(size, b"\0")


def page(data: bytes) -> bytes:
    """The bytes as a header page: 4096 of them, with the CRC at their end."""
    body = fitted(data, HEADER_PAGE - 4)
    return body + crc(body).to_bytes(4, "little")


def identity(data: bytes) -> bytes:
    """The bytes as an IDENTITY file: 128 of them, with the CRC at their end."""
    body = fitted(data, IDENTITY_SIZE - 4)
    return body + crc(body).to_bytes(4, "little")


def header(data: bytes) -> bytes:
    """The bytes as a frame header: 64 of them, with magic and CRC."""
    rest = fitted(data, FRAME_HEADER)[8:]
    return MAGIC_BYTES + crc(rest).to_bytes(4, "little") + rest


def seal(data: bytes) -> bytes:
    """The bytes as the body of a SEAL frame: the trailer names their length and has its CRC."""
    body = bytearray(data[: len(data) // ALIGN * ALIGN])
    if len(body) < ALIGN:
        return data
    _put(body, len(body) - 64 + 16, len(body))
    _put(body, len(body) - 4, crc(body[-64:-4]))
    return bytes(body)


def frames(data: bytes, tag: int, link: int, *, body: bool, chain: bool) -> bytes:
    """Every frame of a segment, wherever its magic stands at a multiple of 64: tag, place and header CRC.

    With `body` its body's CRC too, with `chain` its sequence and link, so that all of them make one log.  `data` is the
    whole file; nothing in front of 4096 is touched.
    """
    out = bytearray(data)
    sequence: int | None = None
    at = HEADER_PAGE
    while at + FRAME_HEADER <= len(out):
        if out[at : at + 4] != MAGIC_BYTES:
            at += ALIGN
            continue
        body_len = _get(out, at + 24)
        end = at + FRAME_HEADER + body_len
        whole = body_len <= MAX_FRAME_BODY and end <= len(out)
        _put(out, at + 16, tag)
        _put(out, at + 20, at // ALIGN)
        if body and whole:
            _put(out, at + 28, crc(out[at + FRAME_HEADER : end]))
        if chain:
            found = int.from_bytes(out[at + 8 : at + 16], "little")
            sequence = found if sequence is None else (sequence + 1) % 2**64
            out[at + 8 : at + 16] = sequence.to_bytes(8, "little")
            _put(out, at + 32, link)
        _put(out, at + 4, crc(out[at + 8 : at + FRAME_HEADER]))
        if parse_header(out, at) is not None:
            link = _get(out, at + 4)
        at = -(-end // ALIGN) * ALIGN if whole else at + ALIGN
    return bytes(out)


def container(data: bytes) -> bytes:
    """A snapshot container: the CRC of its header, then tag, sequence and CRC of each chunk, and the footer's sums."""
    out = bytearray(data)
    size = _get(out, 52)
    if len(out) < CONTAINER_PAGE or not CONTAINER_PAGE <= size <= len(out):
        return data
    tag = crc(out[52:size], crc(out[:48]))
    _put(out, 48, tag)
    at, sequence, payload = size, 0, 0
    while at + CONTAINER_CHUNK <= len(out):
        if out[at : at + 4] == FOOTER_MAGIC:
            if at + CONTAINER_FOOTER > len(out):
                break
            _put(out, at + 12, crc(out[:at]))
            sums = (at + CONTAINER_FOOTER, payload, sequence)
            out[at + 16 : at + 40] = b"".join(value.to_bytes(8, "little") for value in sums)
            end = at + CONTAINER_FOOTER
            _put(out, at + 8, tag)
        else:
            length = _get(out, at)
            end = at + CONTAINER_CHUNK + length
            if end > len(out):
                break
            _put(out, at + 8, sequence)
            _put(out, at + 12, tag)
            sequence += 1
            payload += length
        _put(out, at + 4, crc(out[at + 8 : end], crc(out[at : at + 4])))
        at = end
    return bytes(out)

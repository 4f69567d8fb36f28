"""Protobuf's wire format as an attacker writes it: fields cut, doubled, mistyped, nested without end, filled with what is no text."""

import random
import struct
from collections.abc import Callable

LARGEST_BYTES = 4 * 1024 * 1024
Mutation = Callable[[bytes, random.Random], bytes]


def varint(value: int) -> bytes:
    """Return a number as a varint; any number of bytes long, also longer than the ten that are allowed."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, kind: int) -> bytes:
    """Return the tag of a field of a wire type (0 to 7, of which 6 and 7 do not exist)."""
    return varint(number << 3 | kind)


def block(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag(number, 2) + varint(len(content)) + content


def nested(number: int, depth: int) -> bytes:
    """Return a field within itself, ``depth`` times."""
    content = b""
    for _ in range(depth):
        content = block(number, content)
    return content


def fields(raw: bytes) -> list[bytes]:
    """Return a well-formed message as its top-level fields; what can't be read is one piece."""
    found, at = [], 0
    try:
        while at < len(raw):
            start = at
            key, at = _read_varint(raw, at)
            kind = key & 7
            if kind == 0:
                _, at = _read_varint(raw, at)
            elif kind == 1:
                at += 8
            elif kind == 2:
                size, at = _read_varint(raw, at)
                at += size
            elif kind == 5:
                at += 4
            else:
                raise IndexError
            if at > len(raw):
                raise IndexError
            found.append(raw[start:at])
    except IndexError:
        found.append(raw[start:])
    return found


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def flip(raw: bytes, rng: random.Random) -> bytes:
    out = bytearray(raw or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw))] if raw else b"\x0a"


def drop(raw: bytes, rng: random.Random) -> bytes:
    parts = fields(raw)
    return b"".join(part for part in parts if rng.random() < 0.6)


def double(raw: bytes, rng: random.Random) -> bytes:
    """Repeat fields: of what may be there once (a oneof's members among them) the last counts."""
    parts = fields(raw)
    if not parts:
        return raw
    return b"".join(parts + rng.choices(parts, k=rng.choice((1, 2, 50))))


def shuffle(raw: bytes, rng: random.Random) -> bytes:
    parts = fields(raw)
    rng.shuffle(parts)
    return b"".join(parts)


def splice(raw: bytes, rng: random.Random) -> bytes:
    at, other = (rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:at] + raw[other:]


def huge_varint(raw: bytes, rng: random.Random) -> bytes:
    value = rng.choice((2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**69, 2**200))
    return raw + tag(rng.randrange(1, 24), 0) + varint(value)


def huge_length(raw: bytes, rng: random.Random) -> bytes:
    return raw + tag(rng.randrange(1, 24), 2) + varint(rng.choice((2**20, 2**31 - 1, 2**31, 2**32, 2**63))) + b"x"


def wrong_type(raw: bytes, rng: random.Random) -> bytes:
    parts = fields(raw)
    at = rng.randrange(len(parts)) if parts else 0
    number = parts[at][0] >> 3 if parts and parts[at] else rng.randrange(1, 16)
    kind = rng.randrange(8)
    body = {0: varint(rng.getrandbits(40)), 1: rng.randbytes(8), 2: b"\x03abc", 5: rng.randbytes(4)}.get(kind, rng.randbytes(3))
    return b"".join((*parts[:at], tag(max(number, 1), kind) + body, *parts[at + 1 :]))


def floats(raw: bytes, rng: random.Random) -> bytes:
    value = rng.choice((float("nan"), float("inf"), float("-inf"), 1e308, -0.0))
    return raw + tag(rng.randrange(1, 16), 1) + struct.pack("<d", value)


def deep(raw: bytes, rng: random.Random) -> bytes:
    return raw + nested(rng.randrange(1, 12), rng.choice((90, 101, 120, 1000, 5000)))


def groups(raw: bytes, rng: random.Random) -> bytes:
    """Open groups that nobody closes, or close what nobody opened."""
    return raw + tag(rng.randrange(1, 30), rng.choice((3, 4))) * rng.choice((1, 99, 101, 5000))


def unknown(raw: bytes, rng: random.Random) -> bytes:
    number = rng.choice((rng.randrange(1000, 18000), 19000, 536870911, 536870912, 0))
    return raw + (block(number, rng.randbytes(rng.randrange(40))) if number else b"\x00\x00")


def not_text(raw: bytes, rng: random.Random) -> bytes:
    rubbish = rng.choice((b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"a\x00b", "\u202e\u0007".encode()))
    return raw + block(rng.randrange(1, 9), rubbish)


def overlong(raw: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1000, 10_000, 65_536, 300_000) if rng.random() < 0.98 else (LARGEST_BYTES - 10, LARGEST_BYTES + 10))
    return raw + block(rng.randrange(1, 9), rng.choice((b"a", b"/", b"\xf0\x9f\x98\x80", b"-")) * (size // 4))


def noise(raw: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 3, 17, 200, 4000)))


MUTATIONS: tuple[Mutation, ...] = (
    flip, cut, drop, double, shuffle, splice, huge_varint, huge_length, wrong_type, floats, deep, groups, unknown, not_text, overlong,
    noise,
)  # fmt: skip


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """Return what has become of a message."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        raw = rng.choice(MUTATIONS)(raw, rng)
    return raw

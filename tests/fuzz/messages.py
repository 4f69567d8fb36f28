"""Requests made from descriptors: mostly such as our rules allow, with ids of things that exist, so that what lies behind is reached.

``wild`` is the chance that a field gets a value that no rule allows.
"""

import random
import re
from collections import defaultdict, deque
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from picontroller.internal.buf.validate import validate_pb2

DEEPEST = 6
KEPT = 60
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
PLAIN = ("a", "default", "led-1", "GPIO17", "J8:11", "gpio.*", "node.ready", "1.2.3", "aarch64", "127.0.0.1", "[::1]:1", "0", "x.y/z", "")
WILD_TEXT = (
    "", " ", "'", "' OR 1=1 --", "../../etc/passwd", "a\x00b", "\u202egpj.exe", "%00", "%2e%2e%2f", "{{7*7}}", "${jndi:x}", "<img src=x>",
    "\ud7ff\ue000", "🦀" * 40, "A" * 5000, "-1", "NaN", "null", "*", "*" * 90, "(a+)+$", "a.b.c.d.e", "\r\nx: y", "\x1b[2J", "a" * 64, "spiffe://x/y",
)  # fmt: skip
_RARE = {"etag": 0.9, "page_token": 0.8, "after": 0.6, "update_mask": 0.7}  # how often a field is left out that is seldom right
MASKS = ("labels", "role", "cluster_id", "value", "safe", "id", "bogus", "labels.a", "pin.bcm", "", "*", "a" * 300, "etag", "..")


class Things:
    """What exists on the plane, by the name of the field that would name it. What answers tell is remembered."""

    def __init__(self) -> None:
        self._by_field: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=KEPT))

    def add(self, field: str, *values: str) -> None:
        """Remember values for ``field``, given as ``Message.field`` or as ``field`` of any message."""
        for value in values:
            if value and value not in self._by_field[field]:
                self._by_field[field].append(value)

    def of(self, field: FieldDescriptor) -> list[str]:
        """Return what ``field`` may name."""
        own = f"{field.containing_type.name}.{field.name}"
        return list(self._by_field.get(own) or self._by_field.get(field.name) or ())

    def forget(self, value: str) -> None:
        """Drop what was deleted."""
        for known in self._by_field.values():
            if value in known:
                known.remove(value)

    def learn(self, message: Message) -> None:
        """Remember what an answer tells: ids, etags, cursors and the tokens of further pages."""
        found: Any = message
        kind = message.DESCRIPTOR.name
        if kind == "GpioResource":
            for request in ("Get", "Update", "Delete"):
                self.add(f"{request}GpioResourceRequest.id", found.id)
            self.add("ids", found.id)
            self.add("ReadPinsRequest.ids", found.id)
            self.add("PinWrite.id", found.id)
            self.add("WatchGpioRequest.ids", found.id)
            self.add("etag", found.etag)
        elif kind == "JoinToken":
            self.add("RevokeJoinTokenRequest.id", found.id)
            self.add("IssueCertificateRequest.token", found.token)
        elif kind == "Node":
            self.add("etag", found.etag)
        if token := getattr(message, "next_page_token", ""):
            self.add("page_token", token)
        if kind in ("ListEventsResponse", "SubscribeResponse"):
            self.add("after", *(event.cursor for event in found.events[:2]))


class Maker:
    """Makes requests."""

    def __init__(self, things: Things) -> None:
        self._things = things
        self._names = 0

    def make(self, descriptor: Descriptor, rng: random.Random, wild: float = 0.0, depth: int = 0) -> Message:
        """Return a message of a kind."""
        made = message_factory.GetMessageClass(descriptor)()
        if descriptor.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            return _time(made, rng, wild)
        if descriptor.full_name == "google.protobuf.FieldMask":
            made.paths.extend(rng.choices(MASKS[:5] if rng.random() >= wild else MASKS, k=rng.randrange(3)))  # type: ignore[attr-defined]
            return made
        if depth > DEEPEST:
            return made
        chosen = {oneof.name: rng.choice(oneof.fields).name for oneof in descriptor.oneofs if rng.random() >= wild / 2}
        for field in descriptor.fields:
            if field.containing_oneof is not None:
                if chosen.get(field.containing_oneof.name) != field.name:
                    continue
            elif rng.random() < (wild / 4 if _needed(field) else _RARE.get(field.name, 0.45)):
                continue
            self._fill(made, field, rng, wild, depth)
        return made

    def _fill(self, made: Message, field: FieldDescriptor, rng: random.Random, wild: float, depth: int) -> None:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if not field.is_repeated:
            if field.message_type is not None:
                child = getattr(made, field.name)
                child.SetInParent()
                child.CopyFrom(self.make(field.message_type, rng, wild, depth + 1))
            else:
                setattr(made, field.name, self._scalar(field, rules, rng, wild))
            return
        least = max(rules.repeated.min_items, 0)
        size = rng.choice((least, 1, 2, 3)) if rng.random() >= wild / 4 else rng.choice((0, 40, 300, 1100))
        listed = getattr(made, field.name)
        if field.message_type is None:
            listed.extend(self._scalar(field, rules.repeated.items, rng, wild) for _ in range(max(size, least)))
        elif field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            for _ in range(size):
                name = self._scalar(key, rules.map.keys, rng, wild)
                if value.message_type is None:
                    listed[name] = self._scalar(value, rules.map.values, rng, wild)
                else:
                    listed[name].CopyFrom(self.make(value.message_type, rng, wild, depth + 1))
        else:
            size = min(size, 3) if depth > 1 else size
            kinds = [self.make(field.message_type, rng, wild, depth + 1) for _ in range(min(max(size, least), 3))]
            listed.extend(kinds[index % len(kinds)] for index in range(max(size, least)) if kinds)

    def _scalar(self, field: FieldDescriptor, rules: Any, rng: random.Random, wild: float) -> Any:
        odd = rng.random() < wild
        kind = field.cpp_type
        if field.enum_type is not None:
            legal = [value.number for value in field.enum_type.values if value.number] or [0]
            listed = list(getattr(rules.enum, "in"))
            return rng.choice((0, -1, 99, 2**31 - 1)) if odd else rng.choice(listed or legal)
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return rng.choice(WILD_TEXT) if odd else self._text(field, rules, rng)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.randrange(30))
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return rng.choice((float("nan"), float("inf"), -1e308, 5e-324)) if odd else rng.random() * 100
        low, high = INTEGERS[kind]
        if odd:
            return rng.choice((low, high, max(low, -1), 0, high // 2))
        ruled = getattr(rules, field.enum_type.name if field.enum_type else _RULES[kind])
        low = max(low, ruled.gte if ruled.HasField("gte") else 0)
        high = min(high, ruled.lte if ruled.HasField("lte") else 1000)
        return rng.randint(low, max(low, high))

    def _text(self, field: FieldDescriptor, rules: Any, rng: random.Random) -> str:
        known = self._things.of(field)
        if known and rng.random() < 0.95:
            return rng.choice(known)
        if field.name in ("name", "request_id") and rng.random() < 0.7:
            self._names += 1
            return f"f-{self._names}"
        texts = rules.string
        if texts.uuid:
            return f"00000000-0000-4000-8000-{rng.getrandbits(40):012x}"
        fitting = [
            text
            for text in PLAIN
            if texts.min_len <= len(text) <= (texts.max_len or 10**6) and (not texts.pattern or re.search(texts.pattern, text))
        ]
        return rng.choice(fitting) if fitting else "a"


_RULES = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}


def _needed(field: FieldDescriptor) -> bool:
    """Return whether a rule asks for the field."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    least = rules.string.min_len or rules.string.uuid or rules.string.ip or rules.string.pattern or rules.repeated.min_items
    return bool(rules.required or least or rules.enum.not_in or rules.uint64.gte)


def _time(made: Any, rng: random.Random, wild: float) -> Any:
    if rng.random() < wild:
        made.seconds = rng.choice((-62135596801, -62167219200, 253402300800, 2**63 - 1, -(2**63), -1, 315576000001))
        made.nanos = rng.choice((0, -1, 10**9, -(2**31), 2**31 - 1))
    else:
        made.seconds = rng.choice((0, 1, 60, 3600))
    return made

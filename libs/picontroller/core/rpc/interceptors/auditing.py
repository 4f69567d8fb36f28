"""The audit link: every change and every refusal leaves a record, however the call ends.

It stands outside of the link that turns exceptions into statuses, so that it sees exactly what the caller is told. A change takes its
record into its own transaction (``core.store.sqlite`` finds it through ``core.audit.pending``); all else goes through the service's trail.
"""

import hashlib
from functools import cache
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from picontroller.core.audit import pending
from picontroller.core.audit.chain import Entry
from picontroller.core.audit.pending import Pending
from picontroller.core.audit.trail import Trail
from picontroller.core.rpc.authentication import GATEWAY_REVOKED
from picontroller.core.rpc.interceptors.call import Call, Handler, Method
from picontroller.core.rpc.interceptors.rates import network_of
from picontroller.core.rpc.limits import RATE_LIMITED
from picontroller.core.rpc.permissions import CallClass

LONGEST_RESOURCE = 256
_CHANGING = (CallClass.CHANGE, CallClass.DRIVE, CallClass.JOIN)
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
# Fields by which a request names what it is about, the most telling first. Nothing that is a secret may ever stand here.
_NAMING = ("id", "ids", "name", "node_id", "serial", "identity", "spiffe_id", "subject", "principal", "service")
# How our tokens begin: whoever pastes one where an id belongs should not find it in the log.
_SECRET = ("PC1.", "eyJ")
_HIDDEN = "(hidden)"


class Auditing:
    """Leaves a record of each call of a changing class, and of every call that was refused for who the caller is.

    Of refusals and of changes beyond a caller's rate, which were never looked at, one a minute stands for all that are alike, and
    those of whom nobody knows have a ceiling together: a flood must not fill the log.
    """

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a record."""
        changing, trail = method.permission.call_class in _CHANGING, self._trail

        async def handle_change(call: Call, request: Any) -> Any:
            started = Pending(lambda: _entry(call, request, trail.now()))
            pending.begin(started)
            try:
                return await proceed(call, request)
            finally:
                if _is_refused(call):
                    trail.note_refused(_entry(call, request, trail.now()), _who(call))
                elif call.code is not grpc.StatusCode.OK or not started.recorded:
                    trail.note(_entry(call, request, trail.now()))

        async def handle(call: Call, request: Any) -> Any:
            try:
                return await proceed(call, request)
            finally:
                if call.code in _REFUSED or call.reason == GATEWAY_REVOKED:
                    trail.note_refused(_entry(call, request, trail.now()), _who(call))

        return handle_change if changing else handle


def _is_refused(call: Call) -> bool:
    """Return whether a change was refused for who its caller is or how much he asks; all that fails of whom nobody knows counts as such."""
    if call.caller.identity is None:
        return call.code is not grpc.StatusCode.OK
    return call.code in _REFUSED or call.reason == RATE_LIMITED


def _who(call: Call) -> str:
    return call.caller.principal if call.caller.identity is not None else network_of(call.address)


def _entry(call: Call, request: Any, time: int) -> Entry:
    digest = resource = ""
    if isinstance(request, Message):
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        resource = resource_of(request)
    caller, method = call.caller, call.method.full_name
    return Entry(time, caller.principal, caller.proof, call.address, method, resource, call.code.name, call.reason, call.request_id, digest)


def resource_of(request: Message) -> str:
    """Return what a request is about, as it names it itself; several of a kind with commas between. Empty when it names nothing."""
    for field, inner in _plan(request.DESCRIPTOR):
        value = getattr(request, field)
        if inner:
            items = value if not isinstance(value, Message) else [value]
            text = ",".join(getattr(item, inner) for item in items)
        else:
            text = value if isinstance(value, str) else ",".join(value)
        if text.strip(","):
            return _HIDDEN if any(part.startswith(_SECRET) for part in text.split(",")) else text[:LONGEST_RESOURCE]
    return ""


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[str, str], ...]:
    """Return the fields to look at in turn: ``(field, "")``, or ``(field, field of the message in it)``."""
    found = [(name, "") for name in _NAMING if _is_text(descriptor.fields_by_name.get(name))]
    for field in descriptor.fields:
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            found += [(field.name, name) for name in _NAMING if _is_one_text(field.message_type.fields_by_name.get(name))]
    return tuple(found)


def _is_text(field: FieldDescriptor | None) -> bool:
    return field is not None and field.type == FieldDescriptor.TYPE_STRING


def _is_one_text(field: FieldDescriptor | None) -> bool:
    return field is not None and _is_text(field) and not field.is_repeated

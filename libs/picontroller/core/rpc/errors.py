"""The one table between our errors and gRPC's, in both directions.

Every error carries ErrorInfo (reason, domain, metadata) and RequestInfo; BadRequest and RetryInfo where they apply. An exception that is
not one of ours becomes INTERNAL with a fixed sentence and an id under which the log has the particulars.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from picontroller.core import errors, ids

log = logging.getLogger(__name__)

DOMAIN = "pi-controller.io"

# Errors travel in trailers, base64-coded and beside the message once more, percent-coded. Clients accept 8 KiB of metadata with certainty;
# more than that, and they see RESOURCE_EXHAUSTED instead of the error.
LARGEST_TEXT_BYTES = 500
LARGEST_VIOLATIONS_BYTES = 2500

CODES: dict[type[errors.Error], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
}
CLASSES: dict[grpc.StatusCode, type[errors.Error]] = {code: kind for kind, code in CODES.items()}


def code_of(error: errors.Error) -> grpc.StatusCode:
    """Return the gRPC code of an error, a subclass having that of its nearest ancestor in the table."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.UNKNOWN


def internal(error: BaseException, request_id: str) -> errors.Internal:
    """Log an unexpected exception and return what a caller may know of it."""
    incident = ids.new_short_id()
    log.error("a call failed unexpectedly", exc_info=error, extra={"incident": incident, "request": request_id})
    return errors.Internal(f"internal error; the log has the particulars under incident {incident}", metadata={"incident": incident})


def status_of(error: errors.Error, request_id: str = "") -> status_pb2.Status:
    """Return an error as ``google.rpc.Status`` with its details."""
    number, _ = code_of(error).value
    status = status_pb2.Status(code=number, message=_shortened(error.message, LARGEST_TEXT_BYTES))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.violations:
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=_faults(error.violations)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if request_id:
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    return status


def _faults(violations: Sequence[errors.Violation]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """Return as many violations as fit into a trailer, the last one telling how many more there are."""
    faults: list[error_details_pb2.BadRequest.FieldViolation] = []
    room = LARGEST_VIOLATIONS_BYTES
    for violation in violations:
        field, text = _shortened(violation.field, LARGEST_TEXT_BYTES), _shortened(violation.description, LARGEST_TEXT_BYTES)
        fault = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        room -= fault.ByteSize() + 4
        if room < 0:
            more = f"{len(violations) - len(faults)} more violations"
            faults.append(error_details_pb2.BadRequest.FieldViolation(field="(more)", description=more))
            break
        faults.append(fault)
    return faults


def _shortened(text: str, most: int) -> str:
    """Return ``text`` in at most ``most`` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore") + "\u2026"


def to_grpc(error: errors.Error, request_id: str = "") -> grpc.Status:
    """Return an error as what ``abort_with_status`` takes. What tells when to come back also does so in HTTP's words, for REST callers."""
    status: Any = rpc_status.to_status(status_of(error, request_id))  # a named tuple, whose type is not public
    if error.retry_after is not None:
        wait = ("retry-after", str(max(1, math.ceil(error.retry_after))))
        status = status._replace(trailing_metadata=(*status.trailing_metadata, wait))
    answer: grpc.Status = status
    return answer


def from_status(status: status_pb2.Status) -> errors.Error:
    """Return the error that ``status_of`` turned into ``status``, as nearly as a foreign status allows."""
    reason, metadata, violations, retry = "", {}, [], None
    info, bad, delay = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [errors.Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(delay):
            retry = delay.retry_delay.ToMilliseconds() / 1000
    by_number = {code.value[0]: code for code in grpc.StatusCode}
    kind = CLASSES.get(by_number.get(status.code, grpc.StatusCode.UNKNOWN), errors.Internal)
    return kind(status.message, reason=reason, metadata=metadata, violations=violations, retry_after=retry)


def from_grpc(error: grpc.aio.AioRpcError | grpc.RpcError) -> errors.Error:
    """Return a failed call's error as the class that the callee raised."""
    packed = None
    try:
        packed = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        pass  # details that contradict the code come from a foreign or broken peer; the code alone is used
    if packed is not None:
        return from_status(packed)
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        text = text or "the peer does not answer"
    return CLASSES.get(code, errors.Internal)(text or str(code))


def code_name(number: int) -> str:
    """Return the name of a google.rpc code number, for example ``NOT_FOUND``."""
    return str(code_pb2.Code.Name(number))

"""Schemathesis' part of the REST campaign: for each operation of the description, cases that fit it and cases that do not."""

import time
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz import rest
from tests.fuzz.oracle import Failure, Tally
from tests.fuzz.plane import Target

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
AWAY = (501, 503, 504)
LEFT_OUT = {"RotateAuthority"}  # see raw.HARMLESS_ONLY


def run(target: Target, document: dict[str, Any], number: int, count: int, tally: Tally) -> None:
    """Send about ``count`` cases, as many for each operation."""
    loaded = schemathesis.openapi.from_dict(document)
    session = requests.Session()
    session.trust_env = False
    session.verify = str(target.plane.admin / "ca.pem")
    session.headers.update(dict(target.callers["admin"].metadata))
    found = [each.ok() for each in loaded.get_all_operations()]
    chosen = [each for each in found if not each.path.endswith(rest.STREAMS) and each.definition.raw["operationId"] not in LEFT_OUT]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    share = max(1, count // (len(chosen) * len(modes)))
    for operation in chosen:
        for mode in modes:
            _exhaust(target, session, operation, mode, number, share, tally)


def _exhaust(target: Target, session: requests.Session, operation: Any, mode: Any, number: int, share: int, tally: Tally) -> None:
    @seed(number)
    @settings(
        max_examples=share, database=None, deadline=None, phases=[Phase.generate], derandomize=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        _send(target, session, case, mode.name, tally)

    try:
        send()
    except Exception as error:  # an operation for which there is nothing of this kind, such as a wrong request without parameters
        if type(error).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
            raise
        tally.codes["DESCRIBED", "NOTHING_TO_SEND"] += 1


def _send(target: Target, session: requests.Session, case: Any, mode: str, tally: Tally) -> None:
    known = target.ids("nodes" if "/nodes/" in case.path else "gpio")
    if mode == "POSITIVE" and known and "id" in (case.path_parameters or {}) and case.method != "DELETE":
        case.path_parameters["id"] = known[sum(tally.codes.values()) % len(known)]
    if isinstance(case.body, dict) and case.body.get("identity") == "/gateway":
        case.body["identity"] = "/user/nobody"  # an admin may well revoke the gateway, and would be heard no more
    started = time.monotonic()
    try:
        response = case.call(base_url=target.plane.url, session=session, verify=session.verify, timeout=rest.SECONDS)
    except (requests.RequestException, ValueError) as error:
        tally.codes["DESCRIBED", type(error).__name__] += 1
        return
    request = response.request
    sent = request.body or b""
    answered = rest.Answered(
        case.method, request.path_url, response.status_code, response.content, time.monotonic() - started,
        {name: str(value) for name, value in request.headers.items() if name.lower() != "authorization"},
        sent.encode() if isinstance(sent, str) else bytes(sent) if isinstance(sent, bytes) else b"",
    )  # fmt: skip
    tally.codes["DESCRIBED", str(response.status_code)] += 1
    why = rest.judge(answered, target.secrets)
    if not why:
        try:
            case.validate_response(response, checks=list(CHECKS[1:] if response.status_code in AWAY else CHECKS))
        except FailureGroup as group:
            why = "; ".join(f"{type(each).__name__}: {str(each)[:300]}" for each in group.exceptions)
    if why:
        tally.failures.append(Failure(why, str(response.status_code), response.text[:300], answered.line(target.plane.url)))

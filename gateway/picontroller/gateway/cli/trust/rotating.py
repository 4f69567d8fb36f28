"""The whole way to a new root, step by step, as ``pictl cert rotate-ca`` drives it.

Where a rotation stands is known to the control plane alone, so that this may be stopped anywhere, by anybody, and begun again.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from picontroller.core.errors import DeadlineExceeded, Unavailable
from picontroller.gateway.cli import output
from picontroller.gateway.cli.session import Session
from picontroller.gateway.cli.trust import credential
from picontroller.v1 import identity_pb2_grpc, trust_pb2

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 5.0
MOST_NAMED = 5
State = trust_pb2.AuthorityState
Step = trust_pb2.RotationStep
NEXT = {State.STABLE: Step.PREPARE, State.PREPARED: Step.ACTIVATE, State.ACTIVATED: Step.RETIRE, State.RETIRING: Step.FINISH}
DONE = {
    Step.PREPARE: "a new root is made, and members are told of it",
    Step.ACTIVATE: "certificates are issued under the new root from now on",
    Step.RETIRE: "everybody renews now",
    Step.FINISH: "the old root is believed no more",
    Step.ABANDON: "the new root is forgotten",
}


def authority(session: Session) -> trust_pb2.Authority:
    """Return the state of the authority."""
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    found: trust_pb2.Authority = session.call(stub.GetAuthority, trust_pb2.GetAuthorityRequest())
    return found


def take(session: Session, step: trust_pb2.RotationStep.Value.ValueType, *, force: bool = False) -> trust_pb2.Authority:
    """Take one step, say so on standard error, and follow it with our own files."""
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    taken: trust_pb2.Authority = session.call(stub.RotateAuthority, trust_pb2.RotateAuthorityRequest(step=step, force=force))
    output.note(f"{state_name(taken.state)}: {DONE[step]}")
    keep_up(session)
    return taken


def drive(session: Session, seconds: float, before_finish: Callable[[Sequence[trust_pb2.Straggler]], None]) -> trust_pb2.Authority:
    """Take what steps are left until there is one root again, waiting at most ``seconds`` for members that are behind.

    ``before_finish`` is told who would be overtaken by the end, and may stop it. Raises DeadlineExceeded naming those who did not follow.
    """
    deadline = time.monotonic() + seconds
    keep_up(session)
    at = _patiently(session, deadline, lambda: authority(session))
    while True:
        step = NEXT[at.state]
        at = _until_nobody_is_behind(session, deadline, at)
        if step == Step.FINISH:
            before_finish(at.absent)
        at = _patiently(session, deadline, lambda: take(session, step))  # noqa: B023 - called before the next turn
        if at.state == State.STABLE:
            return at


def keep_up(session: Session) -> None:
    """Bring our own CA file and certificate to where the authority is."""
    trust = credential.trust_told(session, session.timeout)
    context = session.context
    try:
        if credential.believe(Path(context.ca_file), trust.roots_pem):
            output.note(f"{context.ca_file} has the roots that count now")
            session.reconnect()
    except OSError as error:
        output.note(f"{context.ca_file} can't be written ({error.strerror}): replace it before the old root is dropped")
    if not trust.active_root or not credential.overtaken(context, trust):
        return
    # The identity service renews the admin's certificate by itself, in the very files that are in use here if they are its own.
    until = time.monotonic() + SETTLE_SECONDS
    while credential.kept_by_control_plane(context) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS / 5)
        if not credential.overtaken(context, trust):
            session.reconnect()
            return
    fresh = credential.renew(session)
    output.note(f"your own certificate was renewed under the new root; it ends {fresh.not_after:%Y-%m-%d %H:%M} UTC")


def state_name(state: trust_pb2.AuthorityState.Value.ValueType) -> str:
    """Return a state's name, a number for one of a newer control plane."""
    known = State.DESCRIPTOR.enum_types_by_name["Value"].values_by_number.get(state)
    return known.name if known else f"state {state}"


def named(members: Sequence[trust_pb2.Straggler]) -> str:
    """Return the first members' paths, and how many more there are."""
    paths = ["/" + member.spiffe_id.partition("://")[2].partition("/")[2] for member in members[:MOST_NAMED]]
    more = f" and {len(members) - MOST_NAMED} more" if len(members) > MOST_NAMED else ""
    return ", ".join(paths) + more


def _until_nobody_is_behind(session: Session, deadline: float, at: trust_pb2.Authority) -> trust_pb2.Authority:
    told = ""
    while at.stragglers:
        if (now := named(at.stragglers)) != told:
            told = now
            output.note(f"waiting for {len(at.stragglers)}: {now}")
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"the authority is {state_name(at.state)}, and still behind: {now}; the same command goes on later, and"
                f" `pictl cert rotate-ca --step {Step.Value.Name(NEXT[at.state]).lower()} --force` cuts them off",
                reason="MEMBERS_BEHIND",
            )
        time.sleep(LOOK_SECONDS)
        at = _patiently(session, deadline, lambda: authority(session))
    return at


def _patiently(session: Session, deadline: float, ask: Callable[[], trust_pb2.Authority]) -> trust_pb2.Authority:
    """Ask until there is an answer: the gateway's own certificate changes meanwhile too. A step may be repeated."""
    while True:
        try:
            return ask()
        except (Unavailable, DeadlineExceeded) as error:
            if time.monotonic() > deadline:
                raise
            output.note(f"{error.message}; going on")
            time.sleep(LOOK_SECONDS)
            session.reconnect()

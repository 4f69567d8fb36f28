"""The steps from one root to the next.

Each step waits for what the one before needs: nothing is issued under a root that a member which is alive does not believe yet, and no root
is dropped that such a member's certificate still needs. Keys are written first, then one transaction takes the step, then members are told:
stopped in between, an authority is found before the step or after it.
"""

import asyncio
import enum
import errno
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from picontroller.core.callers import Caller, SpiffeId
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied, QuotaExceeded, Violation
from picontroller.core.events import Event
from picontroller.identity import authority
from picontroller.identity.keyring import Keyring, Position, State, write_issuing, write_root
from picontroller.identity.registry import Registry, digest_of, trust_of

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""Of members in a message; all of them are in the answer to GetAuthority."""


class Step(enum.Enum):
    """What can be asked for. Names equal those of ``picontroller.v1.RotationStep``."""

    PREPARE = 1
    ACTIVATE = 2
    RETIRE = 3
    FINISH = 4
    ABANDON = 5


_TAKEN_FROM = {
    Step.PREPARE: State.STABLE,
    Step.ACTIVATE: State.PREPARED,
    Step.RETIRE: State.ACTIVATED,
    Step.FINISH: State.RETIRING,
    Step.ABANDON: State.PREPARED,
}
_LEADS_TO = {
    Step.PREPARE: State.PREPARED,
    Step.ACTIVATE: State.ACTIVATED,
    Step.RETIRE: State.RETIRING,
    Step.FINISH: State.STABLE,
    Step.ABANDON: State.STABLE,
}


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody with a good certificate. ``version`` is of the trust bundle that it acknowledged last.

    ``root`` is of the certificate that it was seen to use, and of the newest one issued to it when it was not: people, who do not report,
    and ``/gateway``, for which another speaks.
    ``seen`` is when it was heard of last, None for one that never was (and for people, who do not report).
    """

    identity: SpiffeId
    version: int
    root: str
    seen: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the authority is. ``stragglers`` are alive and in the way of the next step; ``absent`` are silent and would be overtaken."""

    state: State
    active_root: str
    roots: tuple[str, ...]
    trust_version: int
    stragglers: tuple[Member, ...] = ()
    absent: tuple[Member, ...] = ()


class Store(Protocol):
    """Where positions and members are kept. Each method is one transaction."""

    async def move(self, position: Position, roots: Iterable[str], digest: bytes, event: Event) -> int:
        """Put the authority into ``position`` with what members are to believe now, and return the version of that."""
        ...

    async def acknowledge(self, identity: SpiffeId, version: int, proof: str, now: datetime) -> None:
        """Remember what a member believes, that it is alive, and the certificate in use, which ``proof`` names if it is its own."""
        ...

    async def members(self, now: datetime) -> list[Member]:
        """Return everybody who has a certificate that is neither outdated nor revoked, by identity."""
        ...


class Rotation:
    """Takes steps, one at a time, and knows who is behind."""

    def __init__(self, registry: Registry, store: Store, silent_seconds: float, clock: Clock) -> None:
        self._registry = registry
        self._store = store
        self._silent = timedelta(seconds=silent_seconds)
        self._clock = clock
        self._turn = asyncio.Lock()
        self._taking: set[asyncio.Task[Standing]] = set()

    async def acknowledge(self, caller: Caller, version: int, acts_for: str = "") -> None:
        """Take note that the caller, or ``/gateway`` by the gateway's process, believes ``version``.

        Raises PermissionDenied, and InvalidArgument for a version that does not exist yet.
        """
        identity, proof = caller.identity, caller.proof
        if acts_for:
            if caller.service != "gateway":
                raise PermissionDenied("only the gateway's own process speaks for the gateway's identity", reason="NOT_GATEWAY")
            identity, proof = SpiffeId(self._registry.trust_domain, "gateway", ""), ""
        if identity is None or caller.method != "certificate":
            raise PermissionDenied("only members with a certificate acknowledge", reason="CERTIFICATE_NEEDED")
        newest = self._registry.trust.version
        if version > newest:
            raise InvalidArgument(f"there is no trust bundle {version} yet; the newest is {newest}", reason="VERSION_UNKNOWN")
        await self._store.acknowledge(identity, version, proof, self._clock.now())

    async def standing(self) -> Standing:
        """Return where the authority is and who is behind."""
        now, keyring = self._clock.now(), self._registry.keyring
        stragglers, absent = [], []
        for member in await self._store.members(now):
            alive = member.identity.kind != "user" and member.seen is not None and now - member.seen <= self._silent
            if alive and self._is_in_the_way(member, keyring):
                stragglers.append(member)
            elif not alive and self._is_overtaken(member, keyring):
                absent.append(member)
        roots = tuple(root.fingerprint for root in keyring.roots)
        active, version = keyring.root.fingerprint, self._registry.trust.version
        return Standing(keyring.state, active, roots, version, tuple(stragglers), tuple(absent))

    async def take(self, step: Step, *, force: bool = False) -> Standing:
        """Take a step, and return where that leads; one that was the last taken changes nothing.

        With ``force`` the members named in the answer are cut off. Raises FailedPrecondition ROTATION_STATE for a step out of its order,
        MEMBERS_BEHIND naming those who are alive and in the way, ROOT_TOO_OLD for a root that can't vouch for another, and QuotaExceeded
        or FailedPrecondition when the keys can't be written. Whoever gives up waiting changes nothing about a step: what is committed and
        what is issued with must not come apart.
        """
        task = asyncio.create_task(self._take(step, force=force))
        self._taking.add(task)
        task.add_done_callback(self._taken)
        return await asyncio.shield(task)

    def _taken(self, task: asyncio.Task[Standing]) -> None:
        self._taking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("a step was not taken", extra={"error": str(error)})  # whoever asked may have gone

    async def _take(self, step: Step, *, force: bool) -> Standing:
        async with self._turn:
            keyring = self._registry.keyring
            if keyring.state is _LEADS_TO[step] and keyring.last_step == step.name:
                return await self.standing()
            if keyring.state is not _TAKEN_FROM[step]:
                raise _out_of_order(step, keyring.state)
            before = await self.standing()
            if step in (Step.ACTIVATE, Step.FINISH) and before.stragglers and not force:
                raise _behind(step, before.stragglers)
            try:
                changed = await asyncio.to_thread(self._changed, keyring, step)
            except OSError as error:
                raise unwritable(error) from error
            await self._commit(changed, step, before)
        after = await self.standing()
        cut_off = step is Step.FINISH or (step is Step.ACTIVATE and before.stragglers)
        return replace(after, stragglers=before.stragglers, absent=before.absent) if cut_off else after

    async def _commit(self, changed: Keyring, step: Step, before: Standing) -> None:
        now = self._clock.now()
        data: dict[str, object] = {"active_root": changed.root.fingerprint, "state": changed.state.name}
        if step in (Step.ACTIVATE, Step.FINISH) and before.stragglers:
            data["cut_off"] = [str(member.identity) for member in before.stragglers]
        event = Event(f"authority.{_LEADS_TO[step].name.lower()}", now, resource=changed.root.fingerprint, data=data)
        roots = [root.fingerprint for root in changed.roots]
        version = await self._store.move(changed.position, roots, digest_of(changed), event)
        self._registry.adopt(changed, trust_of(changed, version))
        log.info("the authority took a step", extra={"step": step.name, "state": changed.state.name, "version": version})
        try:
            await asyncio.to_thread(changed.tidy)
        except OSError as error:  # the next step, or the next start, tidies as well
            log.warning("keys that do not count any more could not be removed", extra={"error": str(error)})

    def _changed(self, keyring: Keyring, step: Step) -> Keyring:
        """Return the keyring as it is after ``step``, its new keys on disk. Blocks."""
        now, state = self._clock.now(), _LEADS_TO[step]
        changed = replace(keyring, state=state, last_step=step.name)
        if step is Step.PREPARE:
            coming = authority.make_root(keyring.trust_domain, now)
            cross_pem = authority.cross_certify(coming, keyring.root, now)
            write_root(keyring.folder, coming)
            return replace(changed, other=coming, kept_cross_pem=cross_pem)
        if step is Step.ACTIVATE and keyring.other is not None:
            issuing = write_issuing(keyring.folder, keyring.trust_domain, keyring.other, now)
            return replace(changed, root=keyring.other, issuing=issuing, other=keyring.root)
        if step is Step.RETIRE:
            return changed
        return replace(changed, other=None, kept_cross_pem=b"")

    def _is_in_the_way(self, member: Member, keyring: Keyring) -> bool:
        if keyring.state is State.PREPARED:
            return member.version != self._registry.trust.version
        return keyring.state is State.RETIRING and member.root != keyring.root.fingerprint

    def _is_overtaken(self, member: Member, keyring: Keyring) -> bool:
        if keyring.state in (State.ACTIVATED, State.RETIRING):
            return member.root != keyring.root.fingerprint
        return keyring.state is State.STABLE or member.version != self._registry.trust.version


def unwritable(error: OSError) -> QuotaExceeded | FailedPrecondition:
    """Return what to say of keys that could not be written: nothing was committed, so that nothing changed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded("the disk is full; the authority was not changed", reason="DISK_FULL")
    text = f"the authority's keys can't be written: {error.strerror or error}; the authority was not changed"
    return FailedPrecondition(text, reason="FOLDER_UNWRITABLE")


def _out_of_order(step: Step, state: State) -> FailedPrecondition:
    possible = " or ".join(other.name for other, taken_from in _TAKEN_FROM.items() if taken_from is state)
    return FailedPrecondition(
        f"{step.name} can't be taken while the authority is {state.name}; the next step is {possible}",
        reason="ROTATION_STATE",
        metadata={"state": state.name, "possible": possible},
    )


def _behind(step: Step, members: tuple[Member, ...]) -> FailedPrecondition:
    names = [str(member.identity) for member in members]
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    why = "has not acknowledged the new root yet" if step is Step.ACTIVATE else "uses no certificate of the new root yet"
    return FailedPrecondition(
        f"{step.name} would cut off members that are alive: {shown}; wait until they follow, stop them, or force the step",
        reason="MEMBERS_BEHIND",
        violations=[Violation(name, why) for name in names[:MOST_NAMED]],
        metadata={"count": str(len(names))},
    )

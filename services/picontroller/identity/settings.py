"""Settings of the identity service: how long things last, and who lives on this machine."""

import re
from dataclasses import dataclass

DAY = 24 * 3600
LOCAL_MEMBERS = ("identity", "events", "discovery", "gpio", "gateway")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. The trust domain is chosen once: all certificates carry it."""

    trust_domain: str = "pi-controller.local"
    """Trust domain of all identities (``spiffe://<trust_domain>/…``). Fixed at the first start; a later change is refused. At most
    190 characters, so that every identity stays within the 256 that certificates and audit records have room for."""

    certificate_seconds: int = 30 * DAY
    """Life of certificates. They renew themselves at two thirds, so that 30 days leave a machine 10 days of being switched off."""

    join_token_seconds: int = 600
    """How long a join token works when its maker does not say. Ten minutes are enough to walk to a Pi."""

    member_silent_seconds: int = 180
    """After so long without a word a member counts as switched off, and a rotation of the authority no longer waits for it. Members give a
    sign of life every minute: with less than two minutes, some that are alive count as switched off now and then, and may be cut off."""

    local_members: tuple[str, ...] = LOCAL_MEMBERS
    """Members on this machine, whose identities are written to the data folder at the start. A service that is not
    named here must have its identity put there by other means."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,188}[a-z0-9])?", self.trust_domain):
            raise ValueError(f"trust_domain must be a lower-case domain name of at most 190 characters, not {self.trust_domain!r}")
        if not 10 <= self.certificate_seconds <= 120 * DAY:
            raise ValueError(f"certificate_seconds must be 10 to {120 * DAY} (120 days), not {self.certificate_seconds}")
        if not 10 <= self.join_token_seconds <= DAY:
            raise ValueError(f"join_token_seconds must be 10 to {DAY} (a day), not {self.join_token_seconds}")
        if not 2 <= self.member_silent_seconds <= DAY:
            raise ValueError(f"member_silent_seconds must be 2 to {DAY} (a day), not {self.member_silent_seconds}")
        strange = sorted(set(self.local_members) - {*LOCAL_MEMBERS, "provisioner", "clusters", "backups"})
        if strange:
            raise ValueError(f"local_members names what is not a member: {', '.join(strange)}")

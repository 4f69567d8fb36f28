"""The settings of what one caller may ask of a server: the section ``[limits]``.

A limit is a bucket: it holds ``burst`` calls, each call takes one, and ``per_second`` come back. Each server has its own buckets, so that
a caller of four services has four of them; our own services have none.
"""

from dataclasses import dataclass, fields

MOST_PER_SECOND = 1_000_000.0
RATE_LIMITED = "RATE_LIMITED"  # reason of what is beyond a caller's rate


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How often one caller may call, by the class of the call; a caller is a principal, or an address where nobody is known.

    An IPv6 caller is its /64, of which a single machine has all addresses.
    """

    reads_per_second: float = 1000.0
    """Calls a second that only look. One REST call after the other comes to some 700 a second on a fast machine, so that no script
    meets this and a loop in parallel does."""

    reads_burst: int = 2000
    """Calls that only look which may come at once: a program that lists and then gets everything there is."""

    changes_per_second: float = 100.0
    """Changes a second of what is kept. Each waits for the disk, which is the slowest part of a Pi and everybody's."""

    changes_burst: int = 200
    """Changes that may come at once: a script that sets up the lines of a whole shelf of Pis."""

    drives_per_second: float = 1000.0
    """Movements of pins a second, counted in calls; a call may move many. As many as calls that only look, for the same reason."""

    drives_burst: int = 2000
    """Movements of pins that may come at once."""

    reports_per_second: float = 200.0
    """Signs of life a second of one machine. An agent sends one in five seconds, also when it catches up after an outage."""

    reports_burst: int = 400
    """Signs of life that may come at once."""

    joins_per_second: float = 1.0
    """Attempts a second from one address to trade a join token for a certificate. Each Pi needs one in its life."""

    joins_burst: int = 10
    """Attempts to join from one address that may come at once: some Pis behind one router. Further ones wait and try again."""

    failed_joins_per_second: float = 1.0
    """Failed attempts a second from one address whose tokens are looked at. Guessing 256 bits is hopeless; this keeps it cheap."""

    failed_joins_burst: int = 5
    """Failed attempts from one address that are looked at at once. As long as none is left, a right token waits as well."""

    refusals_per_second: float = 10.0
    """Calls a second of one caller that are refused for who he is, and from one address for lack of a proof. Further ones are told to wait,
    and are not audited."""

    refusals_burst: int = 100
    """Such calls that are refused at once: a page opened in a browser without the right for it asks for a dozen things."""

    streams: int = 100
    """Most streams that one caller holds open on one server. A browser has one for each tab, a program one for each thing it watches."""

    connection_age_seconds: float = 600.0
    """Age at which a connection is asked to end, give or take a tenth, so that nobody lives for ever on the handshake of long ago. Calls
    are not disturbed, streams are opened anew by whoever wants more."""

    connection_grace_seconds: float = 30.0
    """How long calls and streams may go on after their connection was asked to end."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_per_second") and not 0 < value <= MOST_PER_SECOND:
                raise ValueError(f"{field.name} must be above 0 and at most {MOST_PER_SECOND:g}, not {value:g}")
            if field.name.endswith("_burst") and not 1 <= value <= MOST_PER_SECOND:
                raise ValueError(f"{field.name} must be 1 to {MOST_PER_SECOND:g}, not {value}")
        if not 1 <= self.streams <= 1000:
            raise ValueError(f"streams must be 1 to 1000, not {self.streams}")
        if not 1 <= self.connection_age_seconds <= 86400:
            raise ValueError(f"connection_age_seconds must be 1 to 86400 (a day), not {self.connection_age_seconds:g}")
        if not 0.1 <= self.connection_grace_seconds <= 3600:
            raise ValueError(f"connection_grace_seconds must be 0.1 to 3600, not {self.connection_grace_seconds:g}")


DEFAULT_LIMITS = LimitSettings()

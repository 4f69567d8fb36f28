"""Schema versions. A service's schema is a tuple of SQL scripts; script number N takes the file from version N-1 to N.

Each runs in a transaction together with its version number, so that a crash leaves the old schema or the new one. A file that is newer than
the program, or that belongs to another program, is refused and left untouched.
"""

from collections.abc import Sequence

import apsw

from picontroller.core.errors import FailedPrecondition

APPLICATION_ID = 0x50694374  # "PiCt", so that `file` and a mistaken path can tell whose database it is


def migrate(connection: apsw.Connection, scripts: Sequence[str]) -> None:
    """Bring the database to the newest version. Raises FailedPrecondition for a file that is not ours or too new."""
    name = connection.filename
    application = int(connection.pragma("application_id"))
    version = int(connection.pragma("user_version"))
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (application or tables):
        raise FailedPrecondition(f"{name} belongs to another program", reason="DATABASE_FOREIGN")
    if version > len(scripts):
        raise FailedPrecondition(
            f"{name} has schema version {version}, this program knows {len(scripts)}: install the newer release again",
            reason="DATABASE_TOO_NEW",
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        with connection:
            connection.execute(script)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

"""A service with an audit log in a process of its own, to be killed: ``python -m tests.chaos.ledger_process FOLDER``.

A line of JSON on its standard output says that it serves, and where the identity lies under which to call it.
"""

import asyncio
import json
import sys
from pathlib import Path

from tests.fakes.ledger import ledger_service


async def serve(folder: Path) -> None:
    """Serve until it is killed."""
    async with ledger_service(folder) as ledger:
        caller = ledger.mesh("user/anna", "cluster-admin").identity
        print(json.dumps({"address": ledger.address, "identity": str(caller.path)}), flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

"""What ``pictl up`` prints when all is healthy: where it is, how a Pi joins, and what to try next."""

import os
import shutil
import sys
from pathlib import Path

from picontroller.host.embedded import Ready


def show(ready: Ready) -> None:
    """Print the banner on standard output."""
    admin = ready.layout.admin
    pictl = _command()
    sys.stdout.write(
        f"""
Pi-Controller is up: {ready.url}
  CA fingerprint   {ready.fingerprint}
  admin credential {admin} (the command line uses it from now on)
  metrics          http://127.0.0.1:{ready.metrics_port}/metrics

Try in another terminal:
  {pictl} node list
  {pictl} gpio create led --node NODE --pin GPIO17 --mode output --value high
  {pictl} event tail
  curl --cacert {admin}/ca.pem -H "Authorization: Bearer $(cat {admin}/token)" {ready.url}/api/v1/nodes

To join a Pi:
  {pictl} token create    here; it prints the token
  {_joining(ready)}

Ctrl-C drains and stops everything.
"""
    )
    sys.stdout.flush()


def _joining(ready: Ready) -> str:
    """Return how a Pi joins: never at an address that means the Pi itself there."""
    if not ready.join_address:
        return (
            "a Pi can't reach this address: start again with --listen 0.0.0.0:8443 --san NAME, where NAME is how the Pi finds this machine"
        )
    return f"pictl join {ready.join_address} --token-file -    on the Pi"


def _command() -> str:
    """Return how this very pictl is typed: by its name where the shell finds it, else by its path."""
    here, found = Path(sys.argv[0]), shutil.which("pictl")
    if here.name != "pictl" or (found and Path(found).resolve() == here.resolve()):
        return "pictl"
    return os.path.relpath(here)

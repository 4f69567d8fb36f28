"""What ``pictl up`` prints when all is healthy: where it is, how a Pi joins, and what to try next."""

import os
import shutil
import sys
from pathlib import Path

from picontroller.host.embedded import Ready


def show(ready: Ready) -> None:
    """Print the banner on standard output."""
    admin = ready.layout.admin
    address = ready.url.removeprefix("https://")
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
  pictl join {address} --token-file -    on the Pi

Ctrl-C drains and stops everything.
"""
    )
    sys.stdout.flush()


def _command() -> str:
    """Return how this very pictl is typed: by its name where the shell finds it, else by its path."""
    here, found = Path(sys.argv[0]), shutil.which("pictl")
    if here.name != "pictl" or (found and Path(found).resolve() == here.resolve()):
        return "pictl"
    return os.path.relpath(here)

"""``python -m picontroller.agent run|join|leave``: the agent where ``pictl`` and its libraries are not installed."""

import os
import sys

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is loaded: its C core writes to standard error otherwise

from picontroller.agent.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], prog="python -m picontroller.agent"))

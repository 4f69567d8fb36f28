"""``python -m picontroller.agent run|join|leave``: the agent where ``pictl`` and its libraries are not installed."""

import sys

from picontroller.agent.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], prog="python -m picontroller.agent"))

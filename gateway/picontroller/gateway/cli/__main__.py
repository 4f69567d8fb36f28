"""Where ``pictl`` begins: process verbs are run without loading the command line's libraries, everything else is typer's."""

import os
import sys
from importlib.metadata import entry_points

GROUP = "picontroller.commands"
INTERRUPTED = 130
# Options of the root that may stand anywhere, with whether they take a value.
ANYWHERE = {
    "-o": True, "--output": True, "--context": True, "--server": True, "--timeout": True,
    "-y": False, "--yes": False, "-w": False, "--watch": False,
}  # fmt: skip


def hoisted(arguments: list[str]) -> list[str]:
    """Return ``arguments`` with the root's options first. What follows ``--`` is left alone; so is ``--server`` of ``context add``."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    own = {"--server"} if arguments[:2] == ["context", "add"] else set()
    while position < len(arguments):
        word = arguments[position]
        name = word.partition("=")[0]
        if word == "--":
            rest += arguments[position:]
            break
        if name in ANYWHERE and name not in own:
            takes = ANYWHERE[name] and "=" not in word
            front += arguments[position : position + 1 + takes]
            position += 1 + takes
        else:
            rest.append(word)
            position += 1
    return front + rest


def main() -> int:
    """Run ``pictl`` and return its exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] not in (["up"], ["serve"]):
        # Before grpc is loaded: its C core writes to standard error otherwise, into people's terminals and agents' logs.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if arguments:
        for entry in entry_points(group=GROUP, name=arguments[0]):
            return int(entry.load()(arguments[1:]))
    return _user_command(arguments)


def _user_command(arguments: list[str]) -> int:
    from picontroller.core.errors import Error

    try:
        from picontroller.gateway.cli.app import complete
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write("error: the user commands are not installed here\nTry: pip install 'picontroller[cli]'\n")
        return 1

    try:
        result = complete(arguments)(hoisted(arguments), standalone_mode=True)
    except Error as error:
        from picontroller.gateway.cli import exits

        return exits.tell(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(result or 0)


if __name__ == "__main__":
    sys.exit(main())

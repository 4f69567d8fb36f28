"""Streams that outlive their connection: a control plane ends connections now and then, and people who watch should not notice."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from picontroller.core.errors import Unavailable
from picontroller.core.tasks import next_pause
from picontroller.gateway.cli import output


def resumed(attempt: Callable[[], Iterator[Any]], sleep: Callable[[float], None] = time.sleep) -> Iterator[Any]:
    """Yield what ``attempt()`` yields, and call it again for ever when it ends or breaks off.

    Says so on standard error when the second attempt in a row fails. Raises Unavailable when nothing ever came.
    """
    failures, answered = 0, False
    while True:
        try:
            for response in attempt():
                failures, answered = 0, True
                yield response
        except Unavailable as error:
            if not answered:
                raise
            if failures == 1:
                output.note(f"the connection broke ({error.message}); going on")
        failures += 1
        sleep(next_pause(failures))

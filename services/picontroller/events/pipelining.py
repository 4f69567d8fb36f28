"""Publishing with many requests in flight: answers in the order of the requests, and none overtakes one that failed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from picontroller.core.tasks import cancel_and_wait
from picontroller.events.entries import Appended, Submission
from picontroller.events.journal import Journal

WINDOW = 16


async def pipelined(submissions: AsyncIterator[Submission], journal: Journal) -> AsyncGenerator[Appended, None]:
    """Yield the outcome of each submission in order, with up to ``WINDOW`` of them under way.

    Raises the first error, after the outcomes of those before it. What follows a failed one in its source epoch is refused as a gap: if it
    were taken, the failed one would look like a repetition when it is sent again, and be lost.
    """
    under_way: asyncio.Queue[asyncio.Future[Appended] | None] = asyncio.Queue(WINDOW)
    feeding = asyncio.get_running_loop().create_task(_feed(submissions, journal, under_way), name="take in published events")
    try:
        while (appending := await under_way.get()) is not None:
            yield await asyncio.shield(appending)
    finally:
        await cancel_and_wait(feeding)


async def _feed(
    submissions: AsyncIterator[Submission], journal: Journal, under_way: asyncio.Queue[asyncio.Future[Appended] | None]
) -> None:
    begun: set[str] = set()
    try:
        async for submission in submissions:
            await under_way.put(journal.submit(submission, gapless=submission.source_epoch in begun))
            begun.add(submission.source_epoch)
    except Exception as error:  # a request that is refused takes its turn behind those before it
        failed: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        failed.exception()
        await under_way.put(failed)
    else:
        await under_way.put(None)

"""A service's outbox and the bus together: each change's event arrives, once, in order, whatever its size."""

import asyncio
from pathlib import Path

from picontroller.core.clock import SystemClock
from picontroller.core.events import Event
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.store import outbox
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.core.tasks import cancel_and_wait, keep_running
from tests.rpc.events.hosting import Bus
from tests.rpc.events.speaking import subscribed


async def test_outbox_when_emptied_into_the_bus_arrives_once_and_in_order(bus: Bus, tmp_path: Path) -> None:
    clock = SystemClock()
    async with await Database.open(tmp_path / "gpio.db", (outbox.SCHEMA,)) as database, bus.running():
        mesh = bus.mesh("svc/gpio")
        carrying = Outbox(database, EventBus(mesh, "gpio"), clock)
        # More than one message may hold (4 MiB) before the first is carried, then small ones.
        for number in range(400):
            event = Event("gpio.edge", clock.now(), resource=str(number), data={"filling": "x" * (20_000 if number < 300 else 10)})
            await database.write(lambda connection, event=event: outbox.emit(connection, event))
        task = asyncio.create_task(keep_running("outbox", carrying.run, clock))
        async with subscribed(bus.stub(), after="start") as subscription:
            events = await subscription.events(400, 20)
        assert [e.resource for e in events] == [str(number) for number in range(400)]
        async with asyncio.timeout(5):  # what arrived is forgotten a moment later
            while await database.read(lambda c: c.execute("SELECT count(*) FROM outbox").get):
                await asyncio.sleep(0.01)
        await cancel_and_wait(task)
    async with await Database.open(tmp_path / "gpio.db", (outbox.SCHEMA,)) as database, bus.running():
        # A row that was carried but not forgotten, as after a crash between the two.
        await database.write(lambda c: c.execute("INSERT INTO outbox VALUES (400, ?)", (event.to_json(),)))
        await database.write(lambda c: outbox.emit(c, Event("gpio.last", clock.now())))
        task = asyncio.create_task(keep_running("outbox", Outbox(database, EventBus(mesh, "gpio"), clock).run, clock))
        async with subscribed(bus.stub(), after=events[-2].cursor) as subscription:
            assert await subscription.types(2) == ["gpio.edge", "gpio.last"]
        await cancel_and_wait(task)

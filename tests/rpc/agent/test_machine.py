"""Metrics and capabilities over the wire, and who may ask."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf import duration_pb2

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import agent_pb2 as v1
from picontroller.v1 import types_pb2
from tests.rpc.agent.world import World, world


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


async def test_metrics_when_asked_leave_out_what_the_machine_has_not(agent: World) -> None:
    sample: v1.SystemMetrics = await rpc.unary(agent.stub("svc/discovery").GetSystemMetrics, v1.GetSystemMetricsRequest())
    assert (sample.cpu_usage, sample.memory_bytes, list(sample.load)) == (12.5, 4 << 30, [0.5, 0.25, 0.125])
    assert not sample.HasField("temperature")
    assert (sample.uptime.seconds, sample.interfaces[0].name, sample.interfaces[0].speed_mbits) == (90, "eth0", 1000)
    assert sample.time.seconds > 1_700_000_000


async def test_metrics_when_streamed_come_at_the_interval(agent: World) -> None:
    interval = duration_pb2.Duration(nanos=100_000_000)
    stream = rpc.stream(agent.stub().StreamSystemMetrics, v1.StreamSystemMetricsRequest(interval=interval))
    times = [(await anext(stream)).time.ToNanoseconds() for _ in range(4)]
    await stream.aclose()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 99_000_000


@pytest.mark.parametrize("interval", [duration_pb2.Duration(nanos=99_999_999), duration_pb2.Duration(seconds=3601)])
async def test_interval_when_out_of_bounds_is_invalid(agent: World, interval: duration_pb2.Duration) -> None:
    stream = rpc.stream(agent.stub().StreamSystemMetrics, v1.StreamSystemMetricsRequest(interval=interval))
    with pytest.raises(errors.InvalidArgument) as caught:
        await anext(stream)
    assert caught.value.violations[0].field == "interval"


async def test_capabilities_when_asked_tell_board_and_lines(agent: World) -> None:
    agent.driver.board.claim(4, "w1")
    found: types_pb2.Capabilities = await rpc.unary(agent.stub().GetCapabilities, v1.GetCapabilitiesRequest())
    assert (found.model, found.soc, found.gpio_backend, found.simulated) == ("Raspberry Pi 4 Model B Rev 1.5", "bcm2711", "sim", True)
    assert next((chip.label, chip.lines, chip.header) for chip in found.gpio_chips) == ("pinctrl-bcm2711", 58, True)
    reserved = {line.pin.bcm: line.reserved for line in found.lines if line.reserved}
    assert reserved == {0: "ID EEPROM", 1: "ID EEPROM", 2: "I2C1 in use", 3: "I2C1 in use", 4: "claimed by w1"}
    assert len(found.lines) == 28
    assert {"edges", "debounce", "bias", "open-drain", "open-source"} == set(found.features)


@pytest.mark.parametrize("method", ["GetSystemMetrics", "HealthCheck", "GetCapabilities"])
@pytest.mark.parametrize("caller", ["node/6f1c2d3e-0000-4000-8000-000000000001", "user/anna"])
async def test_method_when_called_by_no_service_is_refused(agent: World, method: str, caller: str) -> None:
    stub = agent.stub(caller, roles=("cluster-admin",) if caller.startswith("user/") else ())
    request = {
        "GetSystemMetrics": v1.GetSystemMetricsRequest,
        "HealthCheck": v1.HealthCheckRequest,
        "GetCapabilities": v1.GetCapabilitiesRequest,
    }
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(getattr(stub, method), request[method]())

"""Between the agent's nouns and their messages. Enumerations have equal numbers on both sides; 0 (not given) is given its meaning here."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from google.protobuf import duration_pb2, timestamp_pb2

from picontroller.agent.board.metrics import Sample
from picontroller.agent.capabilities import Capabilities
from picontroller.agent.gpio.events import Batch, PinEvent
from picontroller.agent.gpio.operations import Action, Configure, Epoch, Operation, Read, Release, Result, Write
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level, Mode, PinRef, ResolvedPin, SafeState
from picontroller.core.errors import InvalidArgument
from picontroller.v1 import agent_pb2, types_pb2

LevelValue = types_pb2.Level.Value.ValueType
CauseValue = agent_pb2.PinEvent.Cause.Value.ValueType

DEFAULT_INTERVAL_SECONDS = 1.0


def pin_ref_from(message: types_pb2.PinRef) -> PinRef:
    """Return a line as the caller named it. Raises InvalidArgument when it is not named at all."""
    kind = message.WhichOneof("ref")
    if kind is None:
        raise InvalidArgument("name the line by bcm, header or name", reason="PIN_MISSING")
    return PinRef(kind, getattr(message, kind))


def operation_from(message: agent_pb2.PinOperation) -> Operation:
    """Return one operation of a batch."""
    epoch = Epoch(message.epoch.term, message.epoch.counter) if message.HasField("epoch") else None
    return Operation(pin_ref_from(message.pin), _action_from(message), epoch)


def _action_from(message: agent_pb2.PinOperation) -> Action:
    kind = message.WhichOneof("action")
    if kind == "write":
        return Write(Level(message.write.value))
    if kind == "read":
        return Read()
    if kind == "release":
        return Release()
    if kind == "configure":
        return _configure_from(message.configure)
    raise InvalidArgument("an operation has nothing to do", reason="ACTION_MISSING")


def _configure_from(message: agent_pb2.ConfigurePin) -> Configure:
    return Configure(
        mode=Mode(message.mode),
        value=Level(message.value) if message.value else None,
        safe=SafeState(message.safe or SafeState.INPUT),
        bias=Bias(message.bias),
        drive=Drive(message.drive or Drive.PUSH_PULL),
        active_low=message.active_low,
        edge=Edge(message.edge or Edge.NONE),
        debounce_us=message.debounce.ToMicroseconds(),
    )


@lru_cache(maxsize=64)
def resolved_to(pin: ResolvedPin) -> types_pb2.ResolvedPin:
    """Return a resolved line as a message, always the same one: for use within others, which copy it, and never to be changed."""
    return types_pb2.ResolvedPin(bcm=pin.bcm, header=pin.header, chip=pin.chip, line=pin.line, kernel_name=pin.kernel_name)


def control_to(results: Sequence[Result], atomicity: str) -> agent_pb2.ControlGPIOResponse:
    """Return what came of a batch as a message."""
    response = agent_pb2.ControlGPIOResponse(atomicity=atomicity)
    for result in results:  # filled in place: made from inside out, messages are copied at each level
        message = response.results.add(resolved=resolved_to(result.pin))
        if result.level is not None and result.time is not None:
            observed = message.observed
            observed.value = LevelValue(result.level)
            observed.time.CopyFrom(_timestamp(result.time))
    return response


def batch_to(batch: Batch, run_id: str) -> agent_pb2.WatchEdgesResponse:
    """Return a batch of events as a message."""
    return agent_pb2.WatchEdgesResponse(
        events=[_event_to(event) for event in batch.events], lost=batch.lost, run_id=run_id, sequence=batch.sequence
    )


def _event_to(event: PinEvent) -> agent_pb2.PinEvent:
    happening = event.happening
    return agent_pb2.PinEvent(
        sequence=event.sequence,
        resolved=resolved_to(happening.pin),
        value=LevelValue(happening.level),
        cause=CauseValue(happening.cause),
        time=_timestamp(happening.time),
    )


def ttl_from(request: agent_pb2.HealthCheckRequest) -> float | None:
    """Return for how many seconds the manager may stay away, None when it does not say."""
    return request.manager_ttl.ToNanoseconds() / 1e9 if request.HasField("manager_ttl") else None


def interval_from(request: agent_pb2.StreamSystemMetricsRequest) -> float:
    """Return the seconds between two samples."""
    return request.interval.ToNanoseconds() / 1e9 if request.HasField("interval") else DEFAULT_INTERVAL_SECONDS


def sample_to(sample: Sample) -> agent_pb2.SystemMetrics:
    """Return a sample of the machine as a message; what the machine does not offer is absent."""
    message = agent_pb2.SystemMetrics(time=_timestamp(sample.time), load=sample.load, memory_bytes=sample.memory_bytes)
    for name in ("cpu_usage", "memory_usage", "temperature", "disk_usage"):
        value = getattr(sample, name)
        if value is not None:
            setattr(message, name, value)
    for interface in sample.interfaces:
        message.interfaces.add(
            name=interface.name,
            mac_address=interface.mac_address,
            received_bytes=interface.received_bytes,
            sent_bytes=interface.sent_bytes,
            speed_mbits=interface.speed_mbits,
        )
    if sample.uptime is not None:
        uptime = duration_pb2.Duration()
        uptime.FromTimedelta(sample.uptime)
        message.uptime.CopyFrom(uptime)
    return message


def capabilities_to(capabilities: Capabilities) -> types_pb2.Capabilities:
    """Return what the agent found on its board as a message."""
    board = capabilities.board
    return types_pb2.Capabilities(
        model=board.model,
        soc=board.soc,
        revision=board.revision,
        memory_bytes=board.memory_bytes,
        gpio_backend=capabilities.gpio_backend,
        gpio_chips=[types_pb2.GpioChip(label=chip.label, lines=chip.lines, header=chip.header) for chip in capabilities.gpio_chips],
        lines=[types_pb2.HeaderLine(pin=resolved_to(line.pin), reserved=line.reserved) for line in capabilities.lines],
        i2c_buses=board.i2c_buses,
        spi_devices=board.spi_devices,
        pwm_channels=board.pwm_channels,
        permission_problems=board.permission_problems,
        simulated=board.simulated,
        features=capabilities.features,
    )


def health_to(problems: Sequence[str], *, run_id: str, version: str, lines_in_use: int, safe_by_silence: bool) -> agent_pb2.HealthStatus:
    """Return how the agent is as a message."""
    return agent_pb2.HealthStatus(
        healthy=not problems,
        problems=problems,
        run_id=run_id,
        agent_version=version,
        lines_in_use=lines_in_use,
        safe_by_silence=safe_by_silence,
    )


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """Return a moment as a message; ``Timestamp.FromDatetime`` takes four times as long over its calendar."""
    return timestamp_pb2.Timestamp(seconds=int(moment.timestamp()), nanos=moment.microsecond * 1000)

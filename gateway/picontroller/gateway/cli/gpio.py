"""``pictl gpio``: create, list, get, delete, read, write, watch."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration

from picontroller.core.errors import InvalidArgument
from picontroller.gateway.cli import asking, naming, output, resuming, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import gpio_events_pb2, gpio_pb2, gpio_pb2_grpc, types_pb2

app = typer.Typer(no_args_is_help=True, help="GPIO resources: lines in use, what they should be, what they are.")

Name = Annotated[str, typer.Argument(help="id, the beginning of one, or [namespace/]name")]
Names = Annotated[list[str], typer.Argument(help="ids or names")]


def word(enumeration: object, number: int) -> str:
    """Return an enum's value in lower case, empty for the unspecified one."""
    known = enumeration.DESCRIPTOR.values_by_number.get(number)  # type: ignore[attr-defined]  # enum wrappers share no type
    return (known.name.lower() if known else f"unknown ({number})") if number else ""  # unknown: of a newer control plane


def seen(observation: types_pb2.Observation) -> str:
    """Return an observed level, marked when it is an old one."""
    text = word(types_pb2.Level.Value, observation.value)
    return f"{text} (stale)" if observation.stale and text else text


def where(resource: gpio_pb2.GpioResource) -> str:
    """Return the line as ``GPIO17 (J8:11)``."""
    resolved = resource.resolved
    return f"GPIO{resolved.bcm} (J8:{resolved.header})" if resolved.header else f"GPIO{resolved.bcm}"


VIEW = View(
    "gpio_resources",
    (
        Column("ID", lambda each: each.id[:8]),
        Column("NAMESPACE", lambda each: each.namespace),
        Column("NAME", lambda each: each.name),
        Column("NODE", lambda each: each.node_id[:8]),
        Column("PIN", where),
        Column("MODE", lambda each: word(types_pb2.PinMode.Value, each.mode)),
        Column("WANTED", lambda each: word(types_pb2.Level.Value, each.value)),
        Column("OBSERVED", lambda each: seen(each.observed)),
        Column("SAFE", lambda each: word(types_pb2.SafeState.Value, each.safe), only=Format.WIDE),
        Column("RESTORE", lambda each: word(types_pb2.Restore.Value, each.restore), only=Format.WIDE),
        Column("EDGE", lambda each: word(types_pb2.Edge.Value, each.edge), only=Format.WIDE),
        Column("SEEN", lambda each: times.ago(each.observed.time), only=Format.WIDE),
    ),
    lambda each: each.id,
)


def outcome_view(names: dict[str, str]) -> View:
    """Return how outcomes of a batch are shown; ``names`` maps ids to names."""
    columns = (
        Column("NAME", lambda each: names.get(each.id, each.id)),
        Column("LEVEL", lambda each: seen(each.observed)),
        Column("ERROR", lambda each: each.error.message),
    )
    return View("results", columns, lambda each: each.id)


def _choice(enumeration: object, text: str, option: str) -> int:
    if not text:
        return 0
    key = text.upper().replace("-", "_")
    names = enumeration.keys()[1:]  # type: ignore[attr-defined]  # enum wrappers share no type
    if key not in names:
        raise InvalidArgument(f"{option} is one of {', '.join(name.lower() for name in names)}, not {text!r}", reason="CHOICE_INVALID")
    return enumeration.Value(key)  # type: ignore[attr-defined,no-any-return]  # likewise


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="name, unique in its namespace")],
    node: Annotated[str, typer.Option(help="node by id, the beginning of one, or host name")],
    pin: Annotated[str, typer.Option(help="GPIO17, 17 (Broadcom), or J8:11 (header position)")],
    mode: Annotated[str, typer.Option(help="input or output")] = "output",
    value: Annotated[str, typer.Option(help="first level of an output: high or low")] = "",
    safe: Annotated[str, typer.Option(help="where an output goes when nobody is in charge: low, high, input or hold")] = "",
    restore: Annotated[str, typer.Option(help="after a restart of the agent: safe, or desired to apply the wanted level again")] = "",
    bias: Annotated[str, typer.Option(help="pull: disabled, pull-up or pull-down")] = "",
    drive: Annotated[str, typer.Option(help="push-pull, open-drain or open-source")] = "",
    edge: Annotated[str, typer.Option(help="which changes of an input become events: none, rising, falling or both")] = "",
    debounce: Annotated[str, typer.Option(help="how long an input must hold still, in milliseconds")] = "",
    namespace: Annotated[str, typer.Option(help="namespace")] = "default",
    active_low: Annotated[bool, typer.Option("--active-low", help="low means active")] = False,
) -> None:
    """Take a line into use."""
    session: Session = context.obj
    request = gpio_pb2.CreateGpioResourceRequest(
        name=name,
        namespace=namespace,
        node_id=naming.node(session, node).id,
        pin=naming.pin(pin),
        active_low=active_low,
    )
    request.mode = _choice(types_pb2.PinMode.Value, mode, "--mode")  # type: ignore[assignment]  # a number of that enum
    request.safe = _choice(types_pb2.SafeState.Value, safe, "--safe")  # type: ignore[assignment]  # likewise
    request.restore = _choice(types_pb2.Restore.Value, restore, "--restore")  # type: ignore[assignment]  # likewise
    request.bias = _choice(types_pb2.Bias.Value, bias, "--bias")  # type: ignore[assignment]  # likewise
    request.drive = _choice(types_pb2.Drive.Value, drive, "--drive")  # type: ignore[assignment]  # likewise
    request.edge = _choice(types_pb2.Edge.Value, edge, "--edge")  # type: ignore[assignment]  # likewise
    if value:
        request.value = naming.level(value)
    if debounce:
        if not debounce.isdigit():
            raise InvalidArgument(f"--debounce takes milliseconds, not {debounce!r}", reason="DURATION_INVALID")
        request.debounce.CopyFrom(Duration(seconds=int(debounce) // 1000, nanos=int(debounce) % 1000 * 1_000_000))
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    output.show_one(VIEW, session.call(stub.CreateGpioResource, request), session.output)


@app.command("list")
def list_resources(
    context: typer.Context,
    node: Annotated[str, typer.Option(help="only this node's")] = "",
    namespace: Annotated[str, typer.Option(help="only this namespace's")] = "",
) -> None:
    """List resources with the last level seen."""
    session: Session = context.obj
    session.refuse_watch("pictl gpio watch")
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    node_id = naming.node(session, node).id if node else ""
    request = gpio_pb2.ListGpioResourcesRequest(page_size=1000, node_id=node_id, namespace=namespace)
    output.show_list(VIEW, session.pages(stub.ListGpioResources, request, "gpio_resources"), session.output)


@app.command()
def get(context: typer.Context, name: Name) -> None:
    """Show one resource, its level read from the hardware."""
    session: Session = context.obj
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    resource = naming.resources(session, [name])[0]
    output.show_one(VIEW, session.call(stub.GetGpioResource, gpio_pb2.GetGpioResourceRequest(id=resource.id)), session.output)


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="although the node does not answer")] = False,
) -> None:
    """Bring a line to its safe state and give it up."""
    session: Session = context.obj
    resource = naming.resources(session, [name])[0]
    asking.confirm(session, f"give up {resource.namespace}/{resource.name} on {where(resource)}", f"pictl gpio delete {resource.id} --yes")
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    session.call(stub.DeleteGpioResource, gpio_pb2.DeleteGpioResourceRequest(id=resource.id, force=force))
    output.note(f"{resource.namespace}/{resource.name} is given up")


@app.command()
def read(context: typer.Context, names: Names) -> None:
    """Read lines from the hardware, those of one node in one go."""
    session: Session = context.obj
    wanted = naming.resources(session, names)
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    response = session.call(stub.ReadPins, gpio_pb2.ReadPinsRequest(ids=[each.id for each in wanted]))
    _show_outcomes(session, wanted, list(response.results))


@app.command()
def write(
    context: typer.Context,
    pairs: Annotated[list[str], typer.Argument(help="NAME LEVEL [NAME LEVEL …]; a batch for one node happens wholly or not at all")],
) -> None:
    """Drive outputs: pictl gpio write led high fan low."""
    session: Session = context.obj
    if len(pairs) % 2:
        raise InvalidArgument("give pairs of a name and a level: pictl gpio write led high fan low", reason="PAIRS_INCOMPLETE")
    wanted = naming.resources(session, pairs[::2])
    writes = [gpio_pb2.PinWrite(id=each.id, value=naming.level(text)) for each, text in zip(wanted, pairs[1::2], strict=True)]
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    response = session.call(stub.WritePins, gpio_pb2.WritePinsRequest(writes=writes))
    _show_outcomes(session, wanted, list(response.results))


@app.command()
def watch(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="ids or names; all when none")] = None,
    node: Annotated[str, typer.Option(help="only this node's")] = "",
) -> None:
    """Print what happens on lines as it happens, until Ctrl-C. Goes on by itself when the connection breaks, with a gap."""
    session: Session = context.obj
    request = gpio_events_pb2.WatchGpioRequest(
        ids=[each.id for each in naming.resources(session, names or ())], node_id=naming.node(session, node).id if node else ""
    )
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    opened = 0

    def attempt() -> Iterator[Any]:
        nonlocal opened
        opened += 1
        if opened > 1:
            output.note("the connection was made anew; what happened within the moment between is missing here (pictl event tail has it)")
        return session.stream(stub.WatchEdges, request)

    for response in resuming.resumed(attempt):
        if response.lost:
            output.note(f"{response.lost} events were lost on the way")
        for event in response.events:
            level = word(types_pb2.Level.Value, event.value)
            line = f"{times.clock_time(event.time)}  {event.namespace}/{event.name}  {level}  {event.cause}"
            output.show_line(event, line, session.output)


def _show_outcomes(session: Session, wanted: list[gpio_pb2.GpioResource], results: list[gpio_pb2.PinOutcome]) -> None:
    names = {each.id: f"{each.namespace}/{each.name}" for each in wanted}
    output.show_list(outcome_view(names), results, session.output)
    if any(result.HasField("error") for result in results):
        raise typer.Exit(1)

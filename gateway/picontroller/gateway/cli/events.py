"""``pictl event``: tail."""

import json
from typing import Annotated

import typer

from picontroller.gateway.cli import output, resuming, times
from picontroller.gateway.cli.session import Session
from picontroller.v1 import events_pb2, events_pb2_grpc

app = typer.Typer(no_args_is_help=True, help="Events: what happened, in order.")


@app.callback()
def events() -> None:
    """Events: what happened, in order."""


@app.command()
def tail(
    context: typer.Context,
    kind: Annotated[list[str] | None, typer.Option("--type", help="only these types, with * for anything: 'gpio.*'; repeatable")] = None,
    node: Annotated[list[str] | None, typer.Option(help="only this node's, by id; repeatable")] = None,
    after: Annotated[str, typer.Option(help="begin after this cursor; 'start' begins with the oldest kept")] = "",
) -> None:
    """Print events as they come, until Ctrl-C. Goes on by itself, without gaps, when the connection breaks."""
    session: Session = context.obj
    stub = events_pb2_grpc.EventServiceStub(session.channel)
    request = events_pb2.SubscribeRequest(filter=events_pb2.EventFilter(type=kind or (), node_id=node or ()), after=after)
    for response in resuming.resumed(lambda: session.stream(stub.Subscribe, request)):
        request.after = response.cursor
        for event in response.events:
            output.show_line(event, line(event), session.output)


def line(event: events_pb2.Event) -> str:
    """Return an event as one line for people."""
    data = output.as_data(event).get("data") or {}
    particulars = " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in data.items())
    text = f"{times.clock_time(event.timestamp)}  {event.type}  {event.resource}  {particulars}"
    return "".join(character if character.isprintable() else "?" for character in text).rstrip()

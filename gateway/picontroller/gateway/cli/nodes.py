"""``pictl node``: list, get, watch, delete."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from picontroller.gateway.cli import asking, naming, output, resuming, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc

app = typer.Typer(no_args_is_help=True, help="Nodes: the Pis that joined.")

Name = Annotated[str, typer.Argument(help="id, the beginning of one, or host name")]


def status(node: discovery_pb2.Node) -> str:
    """Return a node's status in lower case."""
    known = discovery_pb2.NodeStatus.DESCRIPTOR.enum_types_by_name["Value"].values_by_number.get(node.status)
    return known.name.lower() if known else f"unknown ({node.status})"  # of a newer control plane


VIEW = View(
    "nodes",
    (
        Column("ID", lambda node: node.id, only=Format.WIDE),
        Column("ID", lambda node: node.id[:8], only=Format.TABLE),
        Column("HOSTNAME", lambda node: node.hostname),
        Column("STATUS", status),
        Column("MODEL", lambda node: node.model),
        Column("ADDRESS", lambda node: node.ip_address),
        Column("SEEN", lambda node: times.ago(node.last_seen)),
        Column("AGENT", lambda node: node.agent_address, only=Format.WIDE),
        Column("VERSION", lambda node: node.agent_version, only=Format.WIDE),
        Column("ARCH", lambda node: node.architecture, only=Format.WIDE),
        Column("CLUSTER", lambda node: node.cluster_id, only=Format.WIDE),
        Column("PROBLEMS", lambda node: "; ".join(node.problems), only=Format.WIDE),
    ),
    lambda node: node.id,
)


@app.command("list")
def list_nodes(
    context: typer.Context,
    state: Annotated[list[str] | None, typer.Option("--status", help="only nodes in this state; repeatable")] = None,
) -> None:
    """List nodes."""
    session: Session = context.obj
    if session.watch:
        _watch(session)
        return
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    wanted = [_status_from(text) for text in state or ()]
    request = discovery_pb2.ListNodesRequest(page_size=1000, status=wanted)
    output.show_list(VIEW, session.pages(stub.ListNodes, request, "nodes"), session.output)


@app.command()
def get(context: typer.Context, name: Name) -> None:
    """Show one node."""
    session: Session = context.obj
    output.show_one(VIEW, naming.node(session, name), session.output)


@app.command()
def watch(context: typer.Context) -> None:
    """Print each node and then each change, a line each, until Ctrl-C. Goes on by itself after a break."""
    _watch(context.obj)


@app.command()
def delete(context: typer.Context, name: Name) -> None:
    """Forget a node and revoke all it has: its identity stays out for good. The Pi itself may join as a new node."""
    session: Session = context.obj
    node = naming.node(session, name)
    what = f"forget node {node.hostname} ({node.id}) and keep its identity out for good"
    asking.confirm(session, what, f"pictl node delete {node.id} --yes")
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    session.call(stub.DeleteNode, discovery_pb2.DeleteNodeRequest(id=node.id))
    output.note(f"node {node.hostname} ({node.id}) is forgotten")


def _watch(session: Session) -> None:
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    change = discovery_pb2.WatchNodesResponse.Change
    shown: dict[str, str] = {}
    heard: set[str] = set()
    synced = False

    def attempt() -> Iterator[Any]:
        nonlocal synced
        synced = False
        heard.clear()
        return session.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest())

    for response in resuming.resumed(attempt):
        node = response.node
        if response.change == change.SYNCED:  # a stream begins with all nodes: who was not among them went while there was none
            synced = True
            for node_id in set(shown) - heard:
                output.show_line(
                    discovery_pb2.WatchNodesResponse(change=change.DELETED, node=discovery_pb2.Node(id=node_id)),
                    f"{node_id[:8]}  deleted",
                    session.output,
                )
                del shown[node_id]
            continue
        deleted = response.change == change.DELETED
        text = output.table(("", "", "", ""), [(node.id[:8], node.hostname, "deleted" if deleted else status(node), node.model)]).strip()
        heard.add(node.id)
        if synced or shown.get(node.id) != text:  # what a new stream begins with was shown before
            output.show_line(response, text, session.output)
        if deleted:
            shown.pop(node.id, None)
        else:
            shown[node.id] = text


def _status_from(text: str) -> discovery_pb2.NodeStatus.Value.ValueType:
    try:
        return discovery_pb2.NodeStatus.Value.Value(text.upper())
    except ValueError:
        known = ", ".join(name.lower() for name in discovery_pb2.NodeStatus.Value.keys()[1:])
        raise typer.BadParameter(f"a status is one of {known}, not {text!r}") from None

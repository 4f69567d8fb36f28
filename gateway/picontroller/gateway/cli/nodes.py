"""``pictl node``: list, get, watch, delete."""

from typing import Annotated

import typer

from picontroller.gateway.cli import asking, naming, output, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc

app = typer.Typer(no_args_is_help=True, help="Nodes: the Pis that joined.")

Name = Annotated[str, typer.Argument(help="id, the beginning of one, or host name")]


def status(node: discovery_pb2.Node) -> str:
    """Return a node's status in lower case."""
    return discovery_pb2.NodeStatus.Value.Name(node.status).lower()


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
    """Print each node and then each change, a line each, until Ctrl-C."""
    _watch(context.obj)


@app.command()
def delete(context: typer.Context, name: Name) -> None:
    """Forget a node. Its agent may register again as long as it has its certificate."""
    session: Session = context.obj
    node = naming.node(session, name)
    asking.confirm(session, f"forget node {node.hostname} ({node.id})", f"pictl node delete {node.id} --yes")
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    session.call(stub.DeleteNode, discovery_pb2.DeleteNodeRequest(id=node.id))
    output.note(f"node {node.hostname} ({node.id}) is forgotten")


def _watch(session: Session) -> None:
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    change = discovery_pb2.WatchNodesResponse.Change
    for response in session.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest()):
        if response.change == change.SYNCED:
            continue
        node = response.node
        word = "deleted" if response.change == change.DELETED else status(node)
        output.show_line(response, output.table(("", "", "", ""), [(node.id[:8], node.hostname, word, node.model)]).strip(), session.output)


def _status_from(text: str) -> discovery_pb2.NodeStatus.Value.ValueType:
    try:
        return discovery_pb2.NodeStatus.Value.Value(text.upper())
    except ValueError:
        known = ", ".join(name.lower() for name in discovery_pb2.NodeStatus.Value.keys()[1:])
        raise typer.BadParameter(f"a status is one of {known}, not {text!r}") from None

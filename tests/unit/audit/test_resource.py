"""What a request is about is read from the fields that name things, and from no other."""

import pytest
from google.protobuf.message import Message

from picontroller.core.rpc.interceptors.auditing import LONGEST_RESOURCE, resource_of
from picontroller.v1 import agent_pb2, discovery_pb2, events_pb2, gpio_pb2, identity_pb2

CANARY = "canary-that-must-not-sing"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (gpio_pb2.CreateGpioResourceRequest(name="led", node_id="n1"), "led"),
        (gpio_pb2.UpdateGpioResourceRequest(id="r1"), "r1"),
        (gpio_pb2.ReadPinsRequest(ids=["r1", "r2"]), "r1,r2"),
        (gpio_pb2.WritePinsRequest(writes=[{"id": "r1"}, {"id": "r2"}]), "r1,r2"),
        (identity_pb2.CreateApiTokenRequest(subject="bot"), "bot"),
        (identity_pb2.CreateJoinTokenRequest(node_id="n1"), "n1"),
        (identity_pb2.IssueCertificateRequest(token=CANARY, csr_pem=CANARY), ""),
        (discovery_pb2.UpdateNodeRequest(id="n1", labels={"id": CANARY}), "n1"),
        (discovery_pb2.UpdateNodeRequest(labels={"id": CANARY}), ""),
        (events_pb2.PublishRequest(source_epoch=CANARY), ""),
    ],
)
def test_resource_when_a_request_names_it_is_that(request_: Message, expected: str) -> None:
    assert resource_of(request_) == expected


@pytest.mark.parametrize("secret", [f"PC1.{CANARY}", f"eyJhbGciOi.{CANARY}"])
def test_resource_when_it_looks_like_one_of_our_secrets_is_hidden(secret: str) -> None:
    assert resource_of(identity_pb2.RevokeJoinTokenRequest(id=secret)) == "(hidden)"
    assert resource_of(gpio_pb2.ReadPinsRequest(ids=["r1", secret])) == "(hidden)"


def test_resource_when_very_long_is_cut() -> None:
    assert resource_of(gpio_pb2.UpdateGpioResourceRequest(id="x" * 5000)) == "x" * LONGEST_RESOURCE


def test_resource_of_every_request_can_be_read_when_it_is_empty() -> None:
    for module in (agent_pb2, discovery_pb2, events_pb2, gpio_pb2, identity_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert resource_of(method.input_type._concrete_class()) == ""

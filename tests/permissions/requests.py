"""One request for each method: small, valid where that has no effect that others would feel, else about something that does not exist."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from picontroller.core.version import version

NODE = "6f1c2d3e-0000-4000-8000-000000000001"
OTHER = "6f1c2d3e-0000-4000-8000-000000000002"
ABSENT = "6f1c2d3e-0000-4000-8000-00000000dead"

_PUBLISHED = {
    "events": [{"type": "matrix.tried", "timestamp": "2026-01-01T00:00:00Z"}],
    "source_epoch": "matrix",
    "first_sequence": 1,
}
_CHANNELZ = {"GetServer": {"server_id": 0}, "GetChannel": {"channel_id": 0}, "GetSubchannel": {"subchannel_id": 0}, "GetSocket": {}}

FIELDS: dict[str, dict[str, Any]] = {
    "RevokeJoinToken": {"id": "nobody22"},
    "IssueCertificate": {"token": "none", "csr_pem": "none"},
    "RenewCertificate": {"csr_pem": "none"},
    "RevokeCertificate": {"identity": f"/node/{ABSENT}"},
    "RotateAuthority": {"step": "ABANDON"},
    "CreateApiToken": {"subject": "matrix", "roles": ["MONITOR"]},
    "RevokeApiToken": {"id": ABSENT},
    "Publish": _PUBLISHED,
    "PublishStream": _PUBLISHED,
    "Subscribe": {"after": "no cursor"},
    "GetNode": {"id": NODE},
    "UpdateNode": {"id": ABSENT, "labels": {"a": "1"}},
    "DeleteNode": {"id": ABSENT},
    "RegisterNode": {
        "id": NODE,
        "hostname": "matrix",
        "ip_address": "192.0.2.7",
        "architecture": "aarch64",
        "agent_version": version(),
        "agent_address": "192.0.2.7:7450",
        "capabilities": {"model": "Raspberry Pi 3 Model B"},
    },
    "ReportHealth": {"id": NODE},
    "UnregisterNode": {"id": NODE},
    "CreateGpioResource": {"name": "led", "node_id": ABSENT, "pin": {"bcm": 17}, "mode": "OUTPUT"},
    "GetGpioResource": {"id": ABSENT},
    "UpdateGpioResource": {"id": ABSENT, "value": "HIGH"},
    "DeleteGpioResource": {"id": ABSENT},
    "ReadPins": {"ids": [ABSENT]},
    "WritePins": {"writes": [{"id": ABSENT, "value": "HIGH"}]},
    "GpioService/WatchEdges": {"node_id": "n" * 65},  # invalid, which is said at once: a valid one waits for an edge
    "WatchAuditRecords": {"service": "NONE"},  # the same
    "StreamSystemMetrics": {"interval": "1s"},
    "ControlGPIO": {"operations": [{"pin": {"bcm": 17}, "read": {}}]},
    "ServerReflectionInfo": {"list_services": ""},
    **_CHANNELZ,
}


def request_for(method: MethodDescriptor) -> Message:
    """Return the request for a method; an empty one where nothing has to be said."""
    service = method.containing_service.name
    fields = FIELDS.get(f"{service}/{method.name}", FIELDS.get(method.name, {}))
    return json_format.ParseDict(fields, GetMessageClass(method.input_type)())

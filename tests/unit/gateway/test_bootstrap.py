"""What Envoy is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from picontroller.gateway.envoy import bootstrap, descriptors
from picontroller.gateway.envoy.bootstrap import Edge
from picontroller.gateway.settings import Settings

UPSTREAMS = {"identity": "unix:/run/identity.sock", "events": "127.0.0.1:7441", "discovery": "[::1]:7442", "gpio": "gpio.example:7445"}


def edge(settings: Settings | None = None, **changed: Any) -> Edge:
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 8443,
        "trust_domain": "pi.example",
        "identity": Path("/data/edge"),
        "upstreams": UPSTREAMS,
        "bridge": "unix:/run/bridge.sock",
        "reflection": "unix:/run/gateway.sock",
        "admin": Path("/run/envoy.sock"),
        "descriptors": Path("/data/envoy/public.binpb"),
        "access_log": Path("/data/access.log"),
        "settings": settings or Settings(),
        **changed,
    }
    return Edge(**fields)


def rendered(settings: Settings | None = None, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bootstrap.render(edge(settings, **changed)))
    return found


def manager(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def every(found: Any, key: str) -> list[Any]:
    """Return all values under ``key``, at any depth."""
    if isinstance(found, dict):
        return ([found[key]] if key in found else []) + [value for part in found.values() for value in every(part, key)]
    return [value for part in found for value in every(part, key)] if isinstance(found, list) else []


def test_upstream_when_rendered_is_verified_by_its_exact_identity() -> None:
    clusters = {cluster["name"]: cluster for cluster in rendered()["static_resources"]["clusters"]}
    for name in (*UPSTREAMS, "gateway"):
        tls = clusters[f"svc-{name}"]["transport_socket"]["typed_config"]
        assert every(tls, "match_typed_subject_alt_names") == [
            [{"san_type": "URI", "matcher": {"exact": f"spiffe://pi.example/svc/{name}"}}]
        ]
        assert tls["sni"] == f"{name}.pi-controller.local"


@pytest.mark.parametrize(
    ("address", "kind", "wanted"),
    [
        ("unix:/run/x.sock", "STATIC", {"pipe": {"path": "/run/x.sock"}}),
        ("127.0.0.1:7441", "STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 7441}}),
        ("[::1]:7442", "STATIC", {"socket_address": {"address": "::1", "port_value": 7442}}),
        ("gpio.example:7445", "STRICT_DNS", {"socket_address": {"address": "gpio.example", "port_value": 7445}}),
    ],
)
def test_address_of_an_upstream_when_rendered(address: str, kind: str, wanted: dict[str, object]) -> None:
    clusters = {cluster["name"]: cluster for cluster in rendered(upstreams={"gpio": address})["static_resources"]["clusters"]}
    assert clusters["svc-gpio"]["type"] == kind
    assert every(clusters["svc-gpio"], "endpoint") == [{"address": wanted}]


def test_tls_when_rendered_is_1_3_everywhere() -> None:
    versions = every(rendered(), "tls_minimum_protocol_version")
    assert len(versions) == 1 + len(UPSTREAMS) + 1
    assert set(versions) == {"TLSv1_3"}


def test_administration_when_rendered_is_a_private_socket_and_nothing_else() -> None:
    assert rendered()["admin"] == {"address": {"pipe": {"path": "/run/envoy.sock", "mode": 0o600}}}


def test_configuration_when_rendered_holds_no_secret() -> None:
    text = bootstrap.render(edge()).decode() + "".join(content.decode() for content in bootstrap.secrets(Path("/data/edge")).values())
    assert "PRIVATE" not in text
    assert "inline_bytes" not in text


def test_headers_of_strangers_are_not_believed() -> None:
    config = manager(rendered())
    assert config["forward_client_cert_details"] == "SANITIZE_SET"
    assert config["use_remote_address"] is True
    assert config["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"


def test_bad_token_is_never_passed_on_and_a_missing_one_is_the_services_business() -> None:
    tokens = next(part["typed_config"] for part in manager(rendered())["http_filters"] if part["name"].endswith("jwt_authn"))
    last = tokens["rules"][-1]
    assert last["match"] == {"prefix": "/"}
    assert last["requires"]["requires_any"]["requirements"] == [{"provider_name": "api_token"}, {"allow_missing": {}}]
    assert (tokens["providers"]["api_token"]["issuer"], tokens["providers"]["api_token"]["forward"]) == ("pi.example", True)


def test_route_when_a_service_is_not_there_does_not_exist() -> None:
    text = json.dumps(manager(rendered(upstreams={"identity": "unix:/x"}))["route_config"])
    assert "picontroller.v1.IdentityService" in text
    assert "picontroller.v1.GpioService" not in text


def test_agents_are_never_reachable() -> None:
    names = {name for members in descriptors.PUBLIC.values() for name in members}
    assert "picontroller.v1.NodeAgentService" not in names
    assert "NodeAgentService" not in json.dumps(rendered())


def test_descriptors_when_read_in_order_know_all_they_import() -> None:
    found = descriptor_pb2.FileDescriptorSet.FromString(descriptors.descriptor_set())
    known: set[str] = set()
    for file in found.file:
        assert set(file.dependency) <= known, file.name
        known.add(file.name)
    assert {"google/rpc/error_details.proto", "picontroller/v1/gpio.proto"} <= known


def test_cross_origin_filter_when_nobody_is_named_is_absent() -> None:
    assert "cors" not in json.dumps(rendered())
    assert "https://dash.example" in json.dumps(rendered(Settings(allowed_origins=("https://dash.example",))))


def test_access_log_when_written_has_no_place_for_tokens_or_queries() -> None:
    fields = manager(rendered())["access_log"][0]["typed_config"]["log_format"]["json_format"]
    assert fields["path"] == "%PATH(NQ:ORIG_OR_PATH)%"
    assert not [
        value for value in fields.values() if "AUTHORIZATION" in value.upper() or "COOKIE" in value.upper() or "PROTOCOL)" in value.upper()
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_origins": ("dash.example",)},
        {"allowed_origins": ("https://dash.example/",)},
        {"allowed_origins": ("*",)},
        {"header_kib": 0},
        {"header_kib": 97},
        {"body_bytes": 0},
        {"requests_per_second": -1},
        {"start_seconds": 0},
    ],
)
def test_settings_when_they_cannot_be_right_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)

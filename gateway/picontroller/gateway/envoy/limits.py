"""How often the edge lets anybody in: all together, each address for itself, and each bearer of a token wherever he calls from.

These end a flood before it costs anything. What a caller may do is the services' to say, who know whom they have before them.
"""

from collections.abc import Mapping

from picontroller.gateway.envoy.typed import Json, typed
from picontroller.gateway.settings import Settings

# Addresses and subjects that are remembered; whoever was seen longest ago is forgotten first, and begins with a full bucket again.
MOST_ADDRESSES = 10_000
ADDRESS, SUBJECT = "masked_remote_address", "subject"
_ACTIONS: dict[str, Json] = {
    ADDRESS: {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}},
    # What the token check, which comes first, wrote down. Who shows no token has no such bucket.
    SUBJECT: {
        "metadata": {
            "descriptor_key": SUBJECT,
            "metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": [{"key": "token"}, {"key": "sub"}]},
            "skip_if_absent": True,
        }
    },
}


def requests(settings: Settings) -> Json:
    """Return the limiter of all requests."""
    everybody, address = _bucket(settings.requests_per_second), _bucket(settings.requests_per_second_per_address)
    return _limiter("requests", everybody, {ADDRESS: address, SUBJECT: _bucket(settings.requests_per_second_per_subject)})


def joins(settings: Settings) -> Json:
    """Return the limiter of attempts to join, which takes the place of that of all requests."""
    burst = settings.joins_burst_per_address
    return _limiter("joins", _bucket(settings.joins_per_second), {ADDRESS: _bucket(burst, max(1, burst // 4))})


def _bucket(burst: int, per_second: int = 0) -> Json:
    return {"max_tokens": burst, "tokens_per_fill": per_second or burst, "fill_interval": "1s"}


def _limiter(name: str, everybody: Json, each: Mapping[str, Json]) -> Json:
    """Return a limiter with one bucket for everybody and one for each of a kind, such as each address.

    Who is refused by the latter takes nothing of the former.
    """
    whole = {"numerator": 100, "denominator": "HUNDRED"}
    return typed(
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=name,
        token_bucket=everybody,
        rate_limits=[{"actions": [_ACTIONS[kind]]} for kind in each],
        # An entry without a value stands for a bucket for each value.
        descriptors=[{"entries": [{"key": kind}], "token_bucket": bucket} for kind, bucket in each.items()],
        max_dynamic_descriptors=MOST_ADDRESSES,
        filter_enabled={"runtime_key": f"limit_{name}_enabled", "default_value": whole},
        filter_enforced={"runtime_key": f"limit_{name}_enforced", "default_value": whole},
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        rate_limited_as_resource_exhausted=True,
    )

"""Envoy's JSON: an object with the name of its type, as its extensions want them."""

Json = dict[str, object]


def typed(kind: str, **fields: object) -> Json:
    """Return ``fields`` as a message of type ``envoy.<kind>``."""
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def disabled(filter_name: str) -> Json:
    """Return the part of a route that switches a filter off."""
    return {filter_name: typed("config.route.v3.FilterConfig", disabled=True, config={})}

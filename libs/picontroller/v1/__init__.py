"""The public API. Generated from proto/picontroller/v1 by `python -m tools.proto generate`; do not edit."""

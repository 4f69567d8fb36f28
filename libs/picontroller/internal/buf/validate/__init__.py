"""The options of protovalidate, readable without protovalidate. Generated; do not edit."""

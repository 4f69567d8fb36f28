"""Figures. Each module prints one JSON object with a ratio to a limit or peer measured in the same run; none is a test."""

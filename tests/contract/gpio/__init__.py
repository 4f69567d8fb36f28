"""The GPIO manager's ports."""

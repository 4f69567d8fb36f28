"""The GPIO manager's rules, without sockets, disk or sleep."""

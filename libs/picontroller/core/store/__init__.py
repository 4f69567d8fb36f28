"""State on disk: one SQLite file a service, one writer, changes and their events in one transaction."""

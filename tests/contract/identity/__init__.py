"""The identity service's store: fake and real."""

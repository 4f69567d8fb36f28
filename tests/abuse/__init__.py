"""The catalogue of abuse: what the outside may try, each item a test with its number in its name."""

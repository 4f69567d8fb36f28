"""The rules of the protos, checked without the library of their makers."""

"""The program: a security sidecar in front of a model server."""

"""Calls between the sidecar's own processes: each end proves to the other that it holds the key of this boot."""

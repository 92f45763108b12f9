"""Programs for the virtual environments of `tests.peers.venvs`, never the sidecar's: scripts, not modules."""

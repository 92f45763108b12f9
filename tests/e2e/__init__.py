"""Whole sidecars as their users start them, over real sockets."""

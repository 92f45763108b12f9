"""Spans on their way out: a bounded ring on the relay's side, an exporter's thread on the other.

Errors: TelemetryError (the exporter cannot be set up).
"""

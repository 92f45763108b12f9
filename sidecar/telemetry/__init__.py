"""What a sidecar tells of itself: metrics, spans, an access log, probes.

In a worker, and cheap: `meter` and `pulse` write its `board`; `details` and `feed` send one fact a call. In the
telemetry process: `process` reads the feeds, `export_otel` and `access_log` pass facts on, `probes` serves what `merge`
makes of all boards and `exposition` writes down. `metrics` is the table of all names.

Errors: TelemetryError (the exporter cannot be set up).
"""

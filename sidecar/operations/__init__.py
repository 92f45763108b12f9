"""The sidecar as its operators see it: how it is, whether a config would do, its end, its logs."""

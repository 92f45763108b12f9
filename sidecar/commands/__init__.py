"""Commands that ask a running sidecar, over `langtrain-client`, as whoever the options or the environment name."""

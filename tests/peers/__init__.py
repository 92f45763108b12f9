"""Real clients and real servers, joined through the sidecar."""

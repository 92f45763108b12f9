"""The demo's two models. These files run in the model server's environment, never in the sidecar's."""

"""Pure scoring: data in, findings out. No calls, no sidecar, no grpc here; interceptors bring texts and tensors."""

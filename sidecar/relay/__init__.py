"""The data plane: HTTP/2 frames in, the interceptor chain over gRPC messages, HTTP/2 frames out."""

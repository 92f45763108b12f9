"""The services process: our own gRPC services, for the relay and nobody else, on Unix sockets."""

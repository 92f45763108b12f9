"""Per-call decisions, sans-I/O: no sockets, files, clocks or grpc here; drivers bring those."""

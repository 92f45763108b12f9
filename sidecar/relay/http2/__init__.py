"""HTTP/2 (RFC 9113) for a gRPC server and client, sans-I/O: bytes in, calls on owners, bytes to send out.

Http2Error
├── ConnectionFault   the connection ends with GOAWAY
└── StreamFault       one stream ends with RST_STREAM
"""

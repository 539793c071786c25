"""Protocol buffers of the gRPC API, and what the compiler makes of them."""

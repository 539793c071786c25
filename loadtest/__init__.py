"""Load on a server from outside, over HTTP and gRPC: locust users, shapes of load, reports."""

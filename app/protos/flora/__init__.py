"""The package `flora` of the gRPC API."""

"""Which services there are, and how a server comes to serve them. Ray Serve imports it by name."""

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from app.protos.flora.v1 import flora_pb2

SERVICES: tuple[ServiceDescriptor, ...] = (
    *flora_pb2.DESCRIPTOR.services_by_name.values(),
    *health_pb2.DESCRIPTOR.services_by_name.values(),
)
"""Ray Serve knows a method by its last name alone: no two services may share one."""


def add_services(servicer: Any, server: Any) -> None:
    """Have `server` call the methods of `servicer` that are called like the services' own."""
    for service in SERVICES:
        handlers = {method.name: _handler(method, servicer) for method in service.methods}
        generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
        server.add_generic_rpc_handlers((generic,))


def caller_of(channel: Any, method: MethodDescriptor) -> Any:
    """What a client calls for `method` on `channel`, as a generated stub would have it."""
    kind = getattr(channel, _kind(method))
    return kind(
        path_of(method),
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )


def path_of(method: MethodDescriptor) -> str:
    """The HTTP/2 path of `method`."""
    return f"/{method.containing_service.full_name}/{method.name}"


def _handler(method: MethodDescriptor, servicer: Any) -> Any:
    make = getattr(grpc, f"{_kind(method)}_rpc_method_handler")
    return make(
        getattr(servicer, method.name),
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _kind(method: MethodDescriptor) -> str:
    sides = (method.client_streaming, method.server_streaming)
    return "_".join("stream" if side else "unary" for side in sides)

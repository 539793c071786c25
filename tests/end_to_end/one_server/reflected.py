"""A gRPC client without stubs: whatever it knows of messages it has from the reflection service."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from app.grpc_services import caller_of


class ReflectedClient:
    """Calls methods by their full names with JSON, like grpcurl."""

    def __init__(self, address: str, channel: grpc.Channel) -> None:
        self.address = address
        self.channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def method(self, path: str) -> Any:
        service, _, name = path.rpartition("/")
        return self._pool.FindServiceByName(service).methods_by_name[name]

    def start(self, path: str, *bodies: dict[str, Any], **options: Any) -> Any:
        method = self.method(path)
        kind = GetMessageClass(method.input_type)
        requests = [ParseDict(body, kind()) for body in bodies or ({},)]
        given = iter(requests) if method.client_streaming else requests[0]
        return caller_of(self.channel, method)(given, **{"timeout": 20, **options})

    def one(self, path: str, *bodies: dict[str, Any], **options: Any) -> dict[str, Any]:
        made: dict[str, Any] = MessageToDict(self.start(path, *bodies, **options))
        return made

    def error(self, path: str, *bodies: dict[str, Any], **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            # A unary call has failed by then.
            list(self.start(path, *bodies, **options))
        return caught.value

"""The RPCs of every service as methods, for Ray Serve or for a server of one's own to call.

Ray Serve finds a method by its name alone, and gives its context as `grpc_context`.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from app import grpc_adapters, grpc_generation
from app.grpc_calls import GrpcCalls
from app.grpc_errors import set_error
from app.protos.flora.v1 import flora_pb2 as pb
from contracts.access import Scope

READ, WRITE = Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE


class GrpcDoor:
    """See flora.proto; an heir sets `_calls` before the first call comes."""

    _calls: GrpcCalls

    async def Generate(self, request: pb.GenerateRequest, grpc_context: Any) -> pb.GenerateResponse:
        return await self._calls.unary(
            grpc_context, Scope.GENERATE, grpc_generation.generate, request, pb.GenerateResponse
        )

    async def GenerateStream(
        self, request: pb.GenerateRequest, grpc_context: Any
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        handler, failed = grpc_generation.generate_stream, pb.GenerateStreamResponse
        answers = self._calls.stream(grpc_context, Scope.GENERATE, handler, request, failed)
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def PublishAdapter(
        self, parts: AsyncIterator[pb.PublishAdapterRequest], grpc_context: Any
    ) -> pb.PublishAdapterResponse:
        handler, failed = grpc_adapters.publish, pb.PublishAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, parts, failed)

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, grpc_context: Any
    ) -> pb.ListAdaptersResponse:
        handler, failed = grpc_adapters.list_adapters, pb.ListAdaptersResponse
        return await self._calls.unary(grpc_context, READ, handler, request, failed)

    async def GetAdapter(
        self, request: pb.GetAdapterRequest, grpc_context: Any
    ) -> pb.GetAdapterResponse:
        handler, failed = grpc_adapters.get_adapter, pb.GetAdapterResponse
        return await self._calls.unary(grpc_context, READ, handler, request, failed)

    async def RollbackAdapter(
        self, request: pb.RollbackAdapterRequest, grpc_context: Any
    ) -> pb.RollbackAdapterResponse:
        handler, failed = grpc_adapters.rollback_adapter, pb.RollbackAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, request, failed)

    async def DeleteAdapter(
        self, request: pb.DeleteAdapterRequest, grpc_context: Any
    ) -> pb.DeleteAdapterResponse:
        handler, failed = grpc_adapters.delete_adapter, pb.DeleteAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, request, failed)

    async def PrefetchAdapter(
        self, request: pb.PrefetchAdapterRequest, grpc_context: Any
    ) -> pb.PrefetchAdapterResponse:
        handler, failed = grpc_adapters.prefetch_adapter, pb.PrefetchAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, request, failed)

    async def PinAdapter(
        self, request: pb.PinAdapterRequest, grpc_context: Any
    ) -> pb.PinAdapterResponse:
        handler, failed = grpc_adapters.pin_adapter, pb.PinAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, request, failed)

    async def UnpinAdapter(
        self, request: pb.UnpinAdapterRequest, grpc_context: Any
    ) -> pb.UnpinAdapterResponse:
        handler, failed = grpc_adapters.unpin_adapter, pb.UnpinAdapterResponse
        return await self._calls.unary(grpc_context, WRITE, handler, request, failed)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, grpc_context: Any
    ) -> health_pb2.HealthCheckResponse:
        found = None
        try:
            self._calls.require_near(grpc_context)
            found = await self._calls.health.check(request)
            if found is None:
                grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
                grpc_context.set_details("There is no such service.")
        except Exception as error:
            set_error(grpc_context, error)
        return found or health_pb2.HealthCheckResponse()

    async def List(
        self, request: health_pb2.HealthListRequest, grpc_context: Any
    ) -> health_pb2.HealthListResponse:
        try:
            self._calls.require_near(grpc_context)
            return await self._calls.health.list_all()
        except Exception as error:
            set_error(grpc_context, error)
            return health_pb2.HealthListResponse()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, grpc_context: Any
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse, None]:
        try:
            self._calls.require_near(grpc_context)
            async with aclosing(self._calls.health.watch(request)) as states:
                async for state in states:
                    yield state
        except Exception as error:
            set_error(grpc_context, error)
            yield health_pb2.HealthCheckResponse()

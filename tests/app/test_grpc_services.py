"""The protocol's files, and how a server comes to serve them."""

import re
import subprocess
import sys
from pathlib import Path

from ray.serve.config import gRPCOptions

from app.config import load_settings
from app.grpc_door import GrpcDoor
from app.grpc_environment import grpc_environment
from app.grpc_services import SERVICES, path_of
from app.protos.flora.v1 import flora_pb2
from app.ray_cluster import grpc_options

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("app/protos/flora/v1")


def test_the_generated_files_are_what_the_compiler_makes(tmp_path: Path) -> None:
    words = ["-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *words, str(FOLDER / "flora.proto")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    for name in ("flora_pb2.py", "flora_pb2.pyi"):
        assert (tmp_path / FOLDER / name).read_text() == (ROOT / FOLDER / name).read_text()


def test_every_field_and_method_has_its_number_once_and_for_all() -> None:
    """What was published stays: this is a copy of some of it."""
    request = flora_pb2.GenerateRequest.DESCRIPTOR.fields_by_name
    assert {name: field.number for name, field in request.items()} == {
        "model": 1,
        "conversation": 2,
        "text": 3,
        "token_ids": 4,
        "sampling": 5,
        "timeout_s": 6,
        "resume_token_ids": 7,
    }
    paths = {path_of(method) for service in SERVICES for method in service.methods}
    assert {"/flora.v1.Generation/GenerateStream", "/flora.v1.Adapters/PublishAdapter"} <= paths


def test_every_message_of_an_rpc_is_its_own() -> None:
    for service in flora_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert method.output_type.name == f"{method.name}Response"
            shared = re.sub("Stream$", "", method.name)
            assert method.input_type.name == f"{shared}Request"


def test_the_door_has_a_method_for_every_rpc() -> None:
    for service in SERVICES:
        for method in service.methods:
            assert callable(getattr(GrpcDoor, method.name))


def test_ray_serve_finds_the_services_by_name() -> None:
    settings = load_settings(overrides={"server": {"grpc_port": 9000}})
    options = gRPCOptions(**(grpc_options(settings.server) or {}))
    (add,) = options.grpc_servicer_func_callable
    served: list[str] = []

    class Server:
        def add_generic_rpc_handlers(self, handlers: tuple[object, ...]) -> None:
            served.append(handlers[0].service_name())  # type: ignore[attr-defined]

    add(GrpcDoor(), Server())
    assert served == [service.full_name for service in SERVICES]
    assert (options.port, options.enable_reflection) == (9000, True)
    assert grpc_options(load_settings().server) is None


def test_ray_serve_is_told_of_limits_and_of_ports_of_this_start() -> None:
    ports = iter([65500, 50001])
    made = grpc_environment(123456, lambda: next(ports))
    assert made == {
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": "123456",
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": "65500",
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": "65536",
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": "50001",
    }

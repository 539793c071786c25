"""The gRPC reference, from the protocol buffers file: its descriptors, and its comments."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

from app.protos.flora import v1
from docs.hooks.markdown_table import table

_FOLDER = Path(v1.__path__[0])
_FILE = "flora.proto"
_SCALARS = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}

# What the descriptor's own description calls the parts of a file, and of these.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS = _VALUES = _METHODS = 2

Path_ = tuple[int, ...]
Comments = Mapping[Path_, str]

_INTRODUCTION = """# gRPC reference

Made from [`flora.v1`](../../app/protos/flora/v1/flora.proto). How the parts work together, and
which scope each method needs, is in the [gRPC API](../grpc-api.md)."""


def grpc_page() -> str:
    """The page: services, messages, enums."""
    file = read_file()
    comments = _comments(file)
    parts = [_INTRODUCTION]
    for i, service in enumerate(file.service):
        parts += _service(service, (_SERVICES, i), comments, file.package)
    parts.append("# Messages")
    for i, message in enumerate(file.message_type):
        parts += _message(message, (_MESSAGES, i), comments)
    for i, enum in enumerate(file.enum_type):
        parts += _enum(enum, (_ENUMS, i), comments)
    return "\n\n".join([*(part for part in parts if part), ""])


def read_file() -> FileDescriptorProto:
    """The file as the protocol buffers compiler reads it, with its comments. Raises ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        words = ["protoc", f"-I{_FOLDER}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main([*words, _FILE]):
            raise ValueError(f"{_FILE} does not compile")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _comments(file: FileDescriptorProto) -> Comments:
    """The comment in front of each part, by the part's path."""
    found = {}
    for location in file.source_code_info.location:
        words = " ".join(location.leading_comments.split())
        if words:
            found[tuple(location.path)] = words
    return found


def _service(service: Any, path: Path_, comments: Comments, package: str) -> Iterator[str]:
    yield f"## {package}.{service.name}"
    yield comments.get(path, "")
    for i, method in enumerate(service.method):
        asked = f"{'stream of ' * method.client_streaming}{_link(method.input_type)}"
        told = f"{'stream of ' * method.server_streaming}{_link(method.output_type)}"
        yield f"### {method.name}"
        yield comments.get((*path, _METHODS, i), "")
        yield f"Takes {asked}, gives {told}."


def _message(message: Any, path: Path_, comments: Comments) -> Iterator[str]:
    yield f"### {message.name}"
    yield comments.get(path, "")
    maps = {each.name: each for each in message.nested_type if each.options.map_entry}
    rows = [
        (
            f"`{field.name}`",
            _kind(field, maps),
            _condition(field, message),
            comments.get((*path, _FIELDS, i), ""),
        )
        for i, field in enumerate(message.field)
    ]
    yield table(("Field", "Type", "", "Meaning"), rows) or "No fields."


def _enum(enum: Any, path: Path_, comments: Comments) -> Iterator[str]:
    yield f"### {enum.name}"
    yield comments.get(path, "")
    rows = [
        (f"`{value.name}`", str(value.number), comments.get((*path, _VALUES, i), ""))
        for i, value in enumerate(enum.value)
    ]
    yield table(("Value", "Number", "Meaning"), rows)


def _kind(field: Any, maps: Mapping[str, Any]) -> str:
    name = field.type_name.rpartition(".")[2]
    if name in maps:
        key, value = maps[name].field
        return f"map of {_kind(key, {})} to {_kind(value, {})}"
    kind = _link(field.type_name) if name else f"`{_SCALARS[field.type]}`"
    return f"list of {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _condition(field: Any, message: Any) -> str:
    """Whether it may be left unset, and what it stands beside."""
    if field.proto3_optional:
        return "optional"
    if field.HasField("oneof_index"):
        return f"one of `{message.oneof_decl[field.oneof_index].name}`"
    return ""


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})"

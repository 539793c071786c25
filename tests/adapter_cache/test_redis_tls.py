"""TLS with a certificate of our own: to Valkey behind a door, and to Redis where there is one."""

import asyncio
import datetime
import ipaddress
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapter_cache.redis_connect import RedisClients
from contracts.errors import StoreUnavailable
from tests.adapter_cache.servers import free_ports, running

pytestmark = pytest.mark.redis
KINDS = ["door", *(["server"] if shutil.which("redis-server") else [])]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "crt", folder / "key"


@asynccontextmanager
async def door(certificate: tuple[Path, Path], port: int, behind: int) -> AsyncIterator[None]:
    """Ends TLS on `port` and passes everything on to `behind`."""

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=context):
        yield


@asynccontextmanager
async def tls_server(
    kind: str, certificate: tuple[Path, Path], directory: Path, valkey_url: str
) -> AsyncIterator[int]:
    plain, port = free_ports(2)
    if kind == "door":
        async with door(certificate, port, int(valkey_url.rpartition(":")[2].partition("/")[0])):
            yield port
        return
    crt, key = map(str, certificate)
    files = ("--tls-cert-file", crt, "--tls-key-file", key, "--tls-ca-cert-file", crt)
    flags = ("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with running(str(shutil.which("redis-server")), directory, plain, *flags):
        yield port


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_is_believed_only_with_its_certificate(
    kind: str, certificate: tuple[Path, Path], tmp_path: Path, valkey_url: str
) -> None:
    async with tls_server(kind, certificate, tmp_path, valkey_url) as port:
        clients = RedisClients.connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[0]}")
        async with clients.writing() as redis:
            await redis.set("secret", b"x" * 200_000)
        async with clients.reading() as redis:
            assert len(await redis.get("secret") or b"") == 200_000
        await clients.close()
        stranger = RedisClients.connect(f"rediss://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await stranger.ping()
        await stranger.close()

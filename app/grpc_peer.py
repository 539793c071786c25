"""Where a call comes from, as gRPC spells it. Pure."""

import ipaddress
from collections.abc import Collection
from urllib.parse import unquote


def is_near(peer: str, own_addresses: Collection[str]) -> bool:
    """Whether `peer`, "ipv4:127.0.0.1:5000" and the like, is on a machine with `own_addresses`.

    A proxy in front of the server reaches it by one of the machine's own addresses.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind == "unix":
        return True
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or str(address) in own_addresses

"""What a broker's port speaks, found out by talking to it: asked only when no connection comes about.

Decides between causes that Kafka's client cannot tell apart: a port that speaks TLS, one that does not, a
certificate and what is wrong with it. It refuses to guess: where the port gives no proof, it says nothing.
"""

import socket
import ssl
from collections.abc import Mapping
from enum import Enum

_SECONDS = 2.0  # to connect, and to answer
# ApiVersions, the one request that a broker answers to strangers: size, key 18, version 0, number 1, no name
_HELLO = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
_NUMBER = bytes.fromhex("00000001")


class Port(Enum):
    """What a port speaks."""

    TLS = "TLS"
    PLAIN = "Kafka without TLS"
    UNKNOWN = "nothing that we know"


def speaks(servers: str) -> Port:
    """Tell what the first of some servers (`host:port,…`) speaks that gives proof."""
    for host, port in _addresses(servers):
        if _greets(host, port):
            return Port.PLAIN
        if _shakes_hands(host, port):
            return Port.TLS
    return Port.UNKNOWN


def certificate_problem(servers: str, options: Mapping[str, str]) -> str:
    """Tell what is wrong with a broker's certificate for us; empty where nothing is, or nothing answers."""
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl.ca.location"), cadata=options.get("ssl.ca.pem")
        )
    except (OSError, ValueError):  # the client has told so already
        return ""
    for host, port in _addresses(servers):
        try:
            with socket.create_connection((host, port), _SECONDS) as plain:
                context.wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except OSError:
            continue
    return ""


def _addresses(servers: str) -> list[tuple[str, int]]:
    found = []
    for server in servers.split(","):
        host, _, port = server.rpartition("://")[2].strip().rpartition(":")
        if port.isdecimal():
            found.append((host.strip("[]"), int(port)))
    return found


def _greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _SECONDS) as plain:
            plain.sendall(_HELLO)
            return plain.recv(8, socket.MSG_WAITALL)[4:] == _NUMBER
    except OSError:
        return False


def _shakes_hands(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who it is does not matter here
    try:
        with socket.create_connection((host, port), _SECONDS) as plain:
            context.wrap_socket(plain).close()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it has spoken TLS, to refuse us
    except OSError:
        return False
    return True

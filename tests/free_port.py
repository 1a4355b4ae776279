"""Ports for a server that takes two."""

import socket

from demo.ports import HOST, bound


def free_port() -> int:
    """Give a free port whose number plus 10,000 is free too: SeaweedFS speaks gRPC there."""
    while True:
        with bound(22_000) as one, socket.socket() as other:
            port = int(one.getsockname()[1])
            try:
                other.bind((HOST, port + 10_000))
            except OSError:
                continue
            return port

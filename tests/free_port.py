"""Ports that nobody listens on, below those that Linux gives to outgoing connections.

So a server that was killed finds its port free when it comes back.
"""

import random
import socket


def free_port() -> int:
    """Give a free port whose number plus 10,000 is free too: SeaweedFS speaks gRPC there."""
    while True:
        port = random.randrange(10_000, 22_000)  # noqa: S311  # no secret
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port

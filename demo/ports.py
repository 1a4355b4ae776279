"""Ports that nobody listens on, below those that Linux gives to outgoing connections.

So a server that was killed finds its port free when it comes back.
"""

import random
import socket

_LOWEST, _OUTGOING = 10_000, 32_768
HOST = "127.0.0.1"


def bound(below: int = _OUTGOING) -> socket.socket:
    """Give a socket bound to such a port: closed, it leaves the port to a server."""
    while True:
        made = socket.socket()
        try:
            made.bind((HOST, random.randrange(_LOWEST, below)))
        except OSError:
            made.close()
            continue
        return made

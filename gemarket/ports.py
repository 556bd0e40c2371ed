"""Free ports, and holding one that several workers share."""

from __future__ import annotations

import socket
from collections import deque
from itertools import repeat

#: Ports that are not given twice.
_LATELY = 1000
_NONE_FREE = "no port is free"
_given: deque[int] = deque(maxlen=_LATELY)


def hold_port(host: str, port: int) -> socket.socket:
    """Reserve a port that workers then share by SO_REUSEPORT; 0 picks a new one.

    New is what this process was not given lately, here or by `free_port`. The socket is bound but
    never listens, so no connection ever goes to it. Raises OSError when somebody without
    SO_REUSEPORT has the port.
    """
    for _ in range(2 * _LATELY):
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind((host, port))
        except OSError:
            held.close()
            raise
        found: int = held.getsockname()[1]
        if port or found not in _given:
            _given.append(found)
            return held
        held.close()
    raise OSError(_NONE_FREE)


def free_port(host: str = "127.0.0.1", wished: int = 0) -> int:
    """Give a port that nobody uses at this moment: the wished one if that is free.

    Any other is none of those that this process was given lately: who got it may not listen yet,
    and two listeners of gRPC share a port without a word.
    """
    for port in (wished, *repeat(0, 2 * _LATELY)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # A port whose last connections linger is free for the next listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
        if found == wished or found not in _given:
            _given.append(found)
            return found
    raise OSError(_NONE_FREE)

"""What tests do in a network namespace of their own: there, real ports are free, and nothing is reached but itself."""

import fcntl
import socket
import struct
import time
import urllib.error
import urllib.request

SOON_S = 30
# Never through a proxy that the developer's environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def loopback_up():
    """A new namespace has the interface, and it is down."""
    request = struct.pack("16sH14s", b"lo", 1, b"")  # IFF_UP
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS


def http(url, body=None, timeout_s=10):
    """The status of the answer, or nothing where there was none."""
    try:
        with DIRECT.open(urllib.request.Request(url, data=body and body.encode()), timeout=timeout_s) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(value, ask):
    """Asks until the answer is this value; returns the last one."""
    deadline = time.monotonic() + SOON_S
    while (answer := ask()) != value and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer

"""A machine of its own, with nothing but a loopback interface, an /etc/hosts, and a nats-server and a natsway as somebody
starts them who has configured neither. Run below `unshare --net --mount`.

Usage: machine.py '{"ipv6": "there" | "disabled" | "absent", "taken": ["127.0.0.1:4280"], "env": {}}'
Prints one JSON line: what natsway answered, what it said, and how it ended.
"""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from netns import SOON_S, http, loopback_up, until


def both_names_of_localhost(folder):
    """As most distributions have it, with IPv6 or without."""
    hosts = f"{folder}/hosts"
    with open(hosts, "w") as f:
        f.write("127.0.0.1 localhost\n::1 localhost\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


def disable_ipv6():
    for interface in ("all", "default", "lo"):
        with open(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", "w") as f:
            f.write("1")


def no_ipv6_in_the_kernel():
    """As with `ipv6.disable=1` at boot: socket(AF_INET6, …) is EAFNOSUPPORT, for this process and its children."""
    number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    load, jump_unless_equal, answer = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 0),  # the system call's number
        (jump_unless_equal, 0, 3, number),
        (load, 0, 0, 16),  # its first argument
        (jump_unless_equal, 0, 1, int(socket.AF_INET6)),
        (answer, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
        (answer, 0, 0, 0x7FFF0000),  # allowed
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter.
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def end_with_me():
    """For a child: it gets SIGKILL when this process ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def take(address):
    host, port = address.rsplit(":", 1)
    host = host.strip("[]")
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.bind((host, int(port)))
    s.listen()
    return s


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def main(machine):
    loopback_up()
    {"there": lambda: None, "disabled": disable_ipv6, "absent": no_ipv6_in_the_kernel}[machine["ipv6"]]()
    taken = [take(address) for address in machine["taken"]]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/said", "w+") as said:
        both_names_of_localhost(folder)
        common = {"cwd": folder, "preexec_fn": end_with_me}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        nats = subprocess.Popen([os.environ["NATS_SERVER_BIN"]], **quiet, **common)
        until(True, lambda: listens(4222))
        natsway = subprocess.Popen([os.environ["NATSWAY_BIN"]], env=machine["env"], stdout=said, stderr=said, **common)
        answers = {}
        try:
            ready = "http://127.0.0.1:4281/readyz"
            until(True, lambda: natsway.poll() is not None or http(ready, timeout_s=0.2) == 200)
            if natsway.poll() is None:
                answers = {
                    "ready": http(ready),
                    "IPv4": http("http://127.0.0.1:4280/v1/publish/a", "x"),
                    "localhost": http("http://localhost:4280/v1/publish/a", "x"),
                    "IPv6": http("http://[::1]:4280/v1/publish/a", "x"),
                }
        finally:
            if natsway.poll() is None:
                natsway.send_signal(signal.SIGTERM)
            code = natsway.wait(SOON_S)
            nats.terminate()
            nats.wait(SOON_S)
        said.seek(0)
        print(json.dumps({"answers": answers, "said": said.read(), "code": code}))
    for s in taken:
        s.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""Runs the image read-only, without capabilities, as the user it names, and lets it resolve, connect and publish.

Usage: check.py LAYOUT:TAG FOLDER. Needs umoci, runc and NATS_SERVER_BIN.
"""

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

# Never through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SOON_S = 30
NAME = "nats.messaging.svc.cluster.local"
# A nameserver of our own on loopback: resolvers know no other port than 53.
NAMESERVER = "127.0.0.153"


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    if done.returncode:
        sys.exit(f"image: {' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


class Nameserver(threading.Thread):
    """Knows one name: A 127.0.0.1; for every other type there is no record."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((NAMESERVER, 53))
        self.asked = set()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            name = b".".join(self.labels(query)).decode()
            kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
            self.asked.add(name)
            known = name == NAME
            answers = known and kind == 1
            head = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(answers), 0, 0)
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if answers else b""
            self.socket.sendto(head + query[12:end] + record, client)

    @staticmethod
    def labels(query):
        at = 12
        while query[at]:
            yield query[at + 1 : at + 1 + query[at]]
            at += 1 + query[at]


def restricted(bundle, files, env):
    """Makes the runtime configuration that umoci derived from the image as strict as the standard asks."""
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["root"]["readonly"] = True
    config["process"]["terminal"] = False
    config["process"]["noNewPrivileges"] = True
    config["process"]["capabilities"] = {k: [] for k in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    config["process"]["env"] += [f"{k}={v}" for k, v in env.items()]
    # The host's network: nats-server and the check are on its loopback.
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
    config["linux"].pop("resources", None)
    config["mounts"] = [m for m in config["mounts"] if m["destination"] in ("/proc", "/dev")]
    for name, text in files.items():
        file = bundle / Path(name).name
        file.write_text(text)
        config["mounts"].append({"destination": name, "type": "bind", "source": str(file.resolve()), "options": ["bind", "ro"]})
    path.write_text(json.dumps(config))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, condition):
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    sys.exit(f"image: not within {SOON_S} s: {what}")


def status(url, body=None):
    try:
        with DIRECT.open(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.terminate()
        process.wait(SOON_S)


def process_facts(pid):
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return {key: lines[key] for key in ("Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs")}


def main(image, folder):
    bundle, name = Path(folder) / "bundle", f"natsway-check-{os.getpid()}"
    shutil.rmtree(bundle, ignore_errors=True)
    run("umoci", "unpack", "--image", image, bundle)
    nats, data, admin = free_port(), free_port(), free_port()
    env = {
        "NATSWAY_NATS__SERVERS": f"nats://{NAME}:{nats}",
        "NATSWAY_LISTEN__DATA": f"127.0.0.1:{data}",
        "NATSWAY_LISTEN__ADMIN": f"127.0.0.1:{admin}",
    }
    files = {"/etc/resolv.conf": f"nameserver {NAMESERVER}\n", "/etc/hosts": "127.0.0.1 localhost\n"}
    restricted(bundle, files, env)
    nameserver = Nameserver()
    nameserver.start()
    server = subprocess.Popen([os.environ["NATS_SERVER_BIN"], "-a", "127.0.0.1", "-p", str(nats)], stderr=subprocess.DEVNULL)
    with ended(server):
        container = subprocess.Popen(["runc", "run", "--no-pivot", "--bundle", bundle, name], stdin=subprocess.DEVNULL)
        with ended(container):
            until("natsway in the image is ready", lambda: status(f"http://127.0.0.1:{admin}/readyz") == 200)
            published = status(f"http://127.0.0.1:{data}/v1/publish/image.check", b"hello")
            facts = process_facts(json.loads(run("runc", "state", name))["pid"])
            health = run("runc", "exec", name, "natsway", "health")
        code = container.returncode
    no_capability = "0" * 16
    expected = {
        "Uid": "65532\t" * 3 + "65532", "Gid": "65532\t" * 3 + "65532", "NoNewPrivs": "1",
        "CapEff": no_capability, "CapPrm": no_capability, "CapBnd": no_capability, "CapAmb": no_capability,
    }  # fmt: skip
    checks = {
        "a publish is confirmed": published == 204,
        "restricted": facts == expected,
        "the name was resolved by DNS": NAME in nameserver.asked,
        "natsway health succeeds": health is not None,
        "SIGTERM ends it well": code == 0,
    }
    failed = [what for what, holds in checks.items() if not holds]
    for what, holds in checks.items():
        print(f"image: {'ok  ' if holds else 'FAIL'} {what}")
    print(f"the image: {len(checks) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])

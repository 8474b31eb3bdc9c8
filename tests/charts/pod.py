"""Runs one natsway container of a rendered pod, as its pod would: own network, own /etc and /run, real names and ports.

Usage: pod.py FILE, below `unshare --net --mount`. FILE is JSON: env, args, files, folders, hosts, probes, requests, nats.
Prints one JSON line: what each probe and each request answered, and how natsway ended.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from netns import SOON_S, http, loopback_up, until


def own_files(files, folders, hosts):
    for own in ("/etc", "/run"):
        subprocess.run(["mount", "-t", "tmpfs", "natsway", own], check=True)
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
    files["/etc/hosts"] = "".join(f"{address} {name}\n" for name, address in hosts.items())
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)


def probe(one, env):
    if "url" in one:
        return http(one["url"])
    return subprocess.run(one["command"], env=env, timeout=30).returncode


def main(pod):
    loopback_up()
    own_files(pod["files"], pod["folders"], pod["hosts"])
    with tempfile.TemporaryDirectory() as folder:
        natsway = Path(folder) / "natsway"
        natsway.symlink_to(os.environ["NATSWAY_BIN"])
        # As in the image: found by its name alone.
        env = pod["env"] | {"PATH": folder}
        nats = subprocess.Popen([os.environ["NATS_SERVER_BIN"], "-js", "-sd", folder, *pod["nats"]], stderr=subprocess.DEVNULL)
        container = subprocess.Popen(["natsway", *pod["args"]], env=env, stdout=sys.stderr)
        try:
            probes = [until(p["well"], lambda p=p: probe(p, env)) for p in pod["probes"]]
            requests = [until(r["well"], lambda r=r: http(r["url"], r.get("body"))) for r in pod["requests"]]
        finally:
            container.send_signal(signal.SIGTERM)
            code = container.wait(SOON_S)
            nats.terminate()
            nats.wait(SOON_S)
    print(json.dumps({"probes": probes, "requests": requests, "code": code}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

"""Rendered, then run: the real natsway starts with what the rendered pod gives it, and answers the rendered probes."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

import charts
import pods
from charts import each

POD_IP = {"IPv4": "127.0.0.2", "IPv6": "::1"}
ACK_KEY = "k1:" + "0123456789abcdef" * 4
SECRETS = {"username": "shop", "user": "shop", "password": "secret", "token": "secret", "keys": ACK_KEY, "headers": "a=b"}
# What Kubernetes puts beside a Service called natsway, unless a pod forbids it.
SERVICE_LINKS = {"NATSWAY_PORT": "tcp://10.0.0.1:80", "NATSWAY_SERVICE_HOST": "10.0.0.1", "NATSWAY_PORT_80_TCP": "tcp://10.0.0.1:80"}
USER = ["--user", "shop", "--pass", "secret"]


def contents(volume, metadata, objects):
    """file name -> text of one volume."""
    if "configMap" in volume:
        maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
        return maps[volume["configMap"]["name"]]
    if "downwardAPI" in volume:
        items = volume["downwardAPI"]["items"]
        key = items[0]["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
        return {items[0]["path"]: metadata["annotations"][key]}
    return {i["path"]: SECRETS[i["key"]] for i in volume.get("secret", {}).get("items", [])}


class Pod:
    """Everything a kubelet would give to the natsway container of this pod."""

    def __init__(self, objects, kind="Deployment"):
        self.objects = objects
        _, self.metadata, self.spec = next(p for p in pods.templates(objects) if p[0]["kind"] == kind)
        self.container = next(c for c in pods.containers(self.spec) if "natsway" in c["image"])
        text = json.dumps(objects)
        self.ip = POD_IP["IPv6" if "[::]:" in text or "[$(" in text else "IPv4"]
        self.host = f"[{self.ip}]" if ":" in self.ip else self.ip

    def env(self):
        links = SERVICE_LINKS if self.spec.get("enableServiceLinks", True) else {}
        env = dict(links)
        for one in self.container["env"]:
            source = one.get("valueFrom", {})
            if "fieldRef" in source:
                value = {"status.podIP": self.ip}[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                value = SECRETS[source["secretKeyRef"]["key"]]
            else:
                value = one["value"]
            for name, text in env.items():
                value = value.replace(f"$({name})", text)
            env[one["name"]] = value
        return env

    def files(self):
        volumes = {v["name"]: v for v in self.spec["volumes"]}
        return {
            f"{mount['mountPath']}/{name}": text
            for mount in self.container["volumeMounts"]
            for name, text in contents(volumes[mount["name"]], self.metadata, self.objects).items()
        }

    def port(self, name):
        return name if isinstance(name, int) else next(p["containerPort"] for p in self.container["ports"] if p["name"] == name)

    def probes(self):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = self.container.get(kind)
            if probe and "httpGet" in probe:
                get = probe["httpGet"]
                yield {"url": f"http://{self.host}:{self.port(get['port'])}{get['path']}", "well": 200}
            elif probe:
                yield {"command": probe["exec"]["command"], "well": 0}

    def run(self, requests, nats=()):
        described = {
            "env": self.env(), "args": self.container.get("args", []), "files": self.files(),
            "folders": [m["mountPath"] for m in self.container["volumeMounts"]],
            "hosts": {n: "127.0.0.1" for n in ("localhost", "nats", "nats.messaging")},
            "probes": list(self.probes()), "requests": requests, "nats": ["-a", "127.0.0.1", "-p", "4222", *nats],
        }  # fmt: skip
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(described, file)
            file.flush()
            user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            done = subprocess.run(
                ["unshare", *user, "--net", "--mount", sys.executable, Path(__file__).with_name("pod.py"), file.name],
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return described, json.loads(done.stdout.splitlines()[-1]), done.stderr


def base(pod):
    """Where clients find natsway: its Service's port on the pod's address, or what the app is told."""
    app = pod.spec["containers"][0]
    if app is pod.container:
        service = next(o for o in pod.objects if o["kind"] == "Service" and not o["metadata"]["name"].endswith("-admin"))
        return f"http://{pod.host}:{pod.port(service['spec']['ports'][0]['targetPort'])}"
    return next(e["value"] for e in app["env"] if e["name"] == "NATSWAY_URL")


PUBLISH = ("/v1/publish/orders.created", 204)
# chart, values, how its NATS is started, a request and its status
RUNS = [
    ("natsway", "default", [], PUBLISH),
    ("natsway", "userpass", USER, PUBLISH),
    ("natsway", "token", ["--auth", "secret"], PUBLISH),
    ("natsway", "hpa-custom-metrics", [], PUBLISH),
    ("natsway", "ipv6", [], PUBLISH),
    # The route is there; nothing holds its subject.
    ("natsway", "declared-routes", [], ("/orders", 404)),
    ("natsway-sidecar-example", "default", [], PUBLISH),
    ("natsway-sidecar-example", "pod-ip", [], PUBLISH),
    # Nobody listens where the configuration looks: it lives all the same, and says so.
    ("natsway-sidecar-example", "default", ["-p", "4333"], ("/v1/publish/orders.created", 503)),
]


def started(chart, name, nats, request):
    pod = Pod(next(c for c in charts.cases(chart) if c.name == name).objects())
    path, well = request
    return pod.run([{"url": base(pod) + path, "body": "hello", "well": well}], nats)


class RenderedThenRun(unittest.TestCase):
    def subjects(self):
        for chart, *_ in RUNS:
            charts.source(chart)
        # Each has a network of its own, so they run side by side.
        with ThreadPoolExecutor(4) as pool:
            results = [pool.submit(started, *run) for run in RUNS]
            for (chart, name, nats, _), result in zip(RUNS, results):
                yield f"{chart}/{name} {' '.join(nats)}", *result.result()

    @each
    def test_it_starts_answers_and_ends(self, described, result, log):
        self.assertEqual(result["probes"], [p["well"] for p in described["probes"]], log)
        self.assertEqual(result["requests"], [r["well"] for r in described["requests"]], log)
        self.assertEqual(result["code"], 0, log)


class EveryConfiguration(unittest.TestCase):
    def subjects(self):
        for case in charts.cases():
            for o in case.objects():
                if o["kind"] == "ConfigMap" and "natsway.yaml" in o["data"]:
                    yield case, o["data"]["natsway.yaml"]
            for _, metadata, _ in pods.templates(case.objects()):
                if "natsway/config" in metadata.get("annotations", {}):
                    yield case, metadata["annotations"]["natsway/config"]

    @each
    def test_natsway_accepts_it(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "natsway.yaml"
            path.write_text(text)
            done = subprocess.run([os.environ["NATSWAY_BIN"], "check", "--config", path], capture_output=True, text=True, env={}, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIsInstance(yaml.safe_load(text), dict)


if __name__ == "__main__":
    unittest.main()

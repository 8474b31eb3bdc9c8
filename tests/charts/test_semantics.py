"""What the rendered objects mean together: names that must match do, and every pod is restricted."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

import yaml

import charts
import pods
from charts import each


def of(objects, kind):
    return [o for o in objects if o["kind"] == kind]


def covers(selector, labels):
    return selector.items() <= labels.items()


class Gateway(unittest.TestCase):
    def subjects(self):
        for case in charts.cases("natsway"):
            objects = case.objects()
            yield case, case, objects, of(objects, "Deployment")[0]

    @each
    def test_selectors_and_ports_meet_the_pods(self, _case, objects, deployment):
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"]
        ports = {p["name"] for p in template["spec"]["containers"][0]["ports"]}
        self.assertTrue(covers(deployment["spec"]["selector"]["matchLabels"], labels))
        for service in of(objects, "Service"):
            self.assertTrue(covers(service["spec"]["selector"], labels))
            self.assertLessEqual({p["targetPort"] for p in service["spec"]["ports"]}, ports)
        for o in of(objects, "PodDisruptionBudget") + of(objects, "PodMonitor"):
            self.assertTrue(covers(o["spec"]["selector"]["matchLabels"], labels))
        for o in of(objects, "NetworkPolicy"):
            self.assertTrue(covers(o["spec"]["podSelector"]["matchLabels"], labels))

    @each
    def test_the_test_pod_is_no_natsway_and_reaches_admin(self, _case, objects, deployment):
        for pod in of(objects, "Pod"):
            labels = pod["metadata"]["labels"]
            self.assertFalse(covers(deployment["spec"]["selector"]["matchLabels"], labels))
            for service in of(objects, "Service"):
                self.assertFalse(covers(service["spec"]["selector"], labels))
            for policy in of(objects, "NetworkPolicy"):
                self.assertFalse(covers(policy["spec"]["podSelector"]["matchLabels"], labels))
                admin = [r for r in policy["spec"]["ingress"] if {"port": "admin", "protocol": "TCP"} in r["ports"]]
                sources = [s.get("podSelector", {}).get("matchLabels", {"nobody": ""}) for s in admin[0].get("from", [])]
                self.assertTrue("from" not in admin[0] or any(covers(s, labels) for s in sources))

    @each
    def test_a_service_monitor_scrapes_the_admin_service_alone(self, _case, objects, _deployment):
        for monitor in of(objects, "ServiceMonitor"):
            found = [s for s in of(objects, "Service") if covers(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
            self.assertEqual([s["metadata"]["name"].endswith("-admin") for s in found], [True])

    @each
    def test_nothing_public_leads_to_admin(self, _case, objects, _deployment):
        services = {s["metadata"]["name"]: {p["name"] for p in s["spec"]["ports"]} for s in of(objects, "Service")}
        for ingress in of(objects, "Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    self.assertEqual(services[backend["name"]] & {backend["port"]["name"]}, {"http"})
        for route in of(objects, "HTTPRoute"):
            for rule in route["spec"]["rules"]:
                for backend in rule.get("backendRefs", []):
                    self.assertEqual(services[backend["name"]], {"http"})

    @each
    def test_autoscalers_own_the_replicas(self, _case, objects, deployment):
        scalers = of(objects, "HorizontalPodAutoscaler") + of(objects, "ScaledObject")
        self.assertEqual("replicas" in deployment["spec"], not scalers)
        for scaler in scalers:
            self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"])

    @each
    def test_the_configuration_is_verbatim(self, case, objects, _deployment):
        own = yaml.safe_load(case.values.read_text()).get("config", {})
        maps = [o for o in of(objects, "ConfigMap") if "natsway.yaml" in o["data"]]
        for config in maps:
            self.contains(yaml.safe_load(config["data"]["natsway.yaml"]), own)

    def contains(self, whole, part):
        for key, value in part.items():
            if isinstance(value, dict):
                self.contains(whole[key], value)
            else:
                self.assertEqual(whole[key], value)

    def test_the_pod_outlives_the_drain(self):
        for values, seconds in (("default", 35), ("all-on", 120)):
            case = next(c for c in charts.cases("natsway") if c.name == values)
            spec = of(case.objects(), "Deployment")[0]["spec"]["template"]["spec"]
            self.assertEqual(spec["terminationGracePeriodSeconds"], seconds)


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def size(text):
    number, unit = re.fullmatch(r"([0-9]+)([A-Za-z]*)", str(text)).groups()
    return int(number) * UNITS.get(unit, 1)


def configurations(objects):
    """(configuration, natsway's container) of every pod that has both."""
    maps = {o["metadata"]["name"]: o["data"]["natsway.yaml"] for o in of(objects, "ConfigMap") if "natsway.yaml" in o["data"]}
    for o, metadata, spec in pods.templates(objects):
        container = next(c for c in pods.containers(spec) if "natsway" in c["image"])
        text = metadata.get("annotations", {}).get("natsway/config") or next(
            (maps[v["configMap"]["name"]] for v in spec.get("volumes", []) if v.get("configMap", {}).get("name") in maps), None
        )
        if text:
            yield yaml.safe_load(text), container


class Memory(unittest.TestCase):
    """The sum of docs/operating.md, "Sizing", is below the container's limit."""

    DEFAULTS = charts.schema("natsway")["properties"]["config"]["properties"]

    def subjects(self):
        plain = charts.ROOT / "deploy" / "kubernetes" / "sidecar.yaml"
        rendered = [(case, case.objects()) for case in charts.cases()] + [(plain.name, [yaml.safe_load(plain.read_text())])]
        for name, objects in rendered:
            for config, container in configurations(objects):
                yield name, config, container["resources"]["limits"]["memory"]

    def of(self, config, section, *path):
        value, schema, default = config.get(section), self.DEFAULTS[section], {}
        for key in path:
            schema = schema.get("properties", {}).get(key, {})
            value, default = (value or {}).get(key), schema.get("default") or default.get(key)
        return default if value is None else value

    @each
    def test_natsway_fits_into_its_limit(self, config, limit):
        links = self.of(config, "nats", "connections") + 2
        bounds = [
            2 * size(self.of(config, "memory", "bodies")),
            size(self.of(config, "memory", "streams")),
            links * size(self.of(config, "nats", "buffer", "bytes")),
            self.of(config, "http", "connections_max") * size("30KiB"),
            size("30MiB"),
        ]
        self.assertLess(sum(bounds), size(limit), bounds)


class EveryPod(unittest.TestCase):
    def subjects(self):
        for case in charts.cases():
            for o, _, spec in pods.templates(case.objects()):
                yield f"{case} {o['kind']}", case, spec

    @each
    def test_is_restricted(self, case, spec):
        for container in pods.containers(spec):
            if "natsway" in container["image"]:
                self.assertEqual(pods.restricted(spec, container, case.name == "openshift"), [])
                self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])

    @each
    def test_mounts_what_it_declares(self, _case, spec):
        declared = {v["name"] for v in spec.get("volumes", [])}
        mounted = {m["name"] for c in pods.containers(spec) for m in c.get("volumeMounts", [])}
        self.assertEqual(declared, mounted)

    @each
    def test_reads_files_that_are_mounted(self, _case, spec):
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        for container in pods.containers(spec):
            for env in container.get("env", []):
                if env["name"].endswith("_FILE"):
                    folder, _, name = env["value"].rpartition("/")
                    mount = next(m for m in container["volumeMounts"] if m["mountPath"] == folder)
                    self.assertIn(name, {i["path"] for i in volumes[mount["name"]]["secret"]["items"]})


class Sidecar(unittest.TestCase):
    def subjects(self):
        for case in charts.cases("natsway-sidecar-example"):
            for o, metadata, spec in pods.templates(case.objects()):
                yield f"{case} {o['kind']}", metadata, spec, spec["initContainers"][0]

    @each
    def test_is_native_and_never_takes_the_app_out(self, _metadata, _spec, sidecar):
        self.assertEqual(sidecar["restartPolicy"], "Always")
        self.assertNotIn("readinessProbe", sidecar)
        startup = sidecar["startupProbe"]
        self.assertTrue(startup.get("exec", {}).get("command") == ["natsway", "health"] or startup["httpGet"]["path"] == "/livez")

    @each
    def test_finds_its_configuration_in_the_pod(self, metadata, spec, _sidecar):
        volume = spec["volumes"][0]
        if "downwardAPI" in volume:
            self.assertEqual(volume["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"], "metadata.annotations['natsway/config']")
            self.assertIn("servers", yaml.safe_load(metadata["annotations"]["natsway/config"])["nats"])

    def test_an_alias_will_do(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "example"
            shutil.copytree(charts.source("natsway-sidecar-example"), copy)
            text = (copy / "Chart.yaml").read_text()
            (copy / "Chart.yaml").write_text(text.rstrip() + "\n    alias: natsway\n")
            text = (copy / "values.yaml").read_text()
            (copy / "values.yaml").write_text(text.replace("natsway-sidecar:", "natsway:"))
            done = charts.helm("template", charts.RELEASE, copy, "--set", "natsway.admin.port=5")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('"127.0.0.1:5"', done.stdout)

    def test_its_image_is_the_charts_version(self):
        chart = yaml.safe_load((charts.CHARTS / "natsway-sidecar" / "Chart.yaml").read_text())
        self.assertEqual(charts.values("natsway-sidecar")["image"]["tag"], chart["appVersion"])


if __name__ == "__main__":
    unittest.main()

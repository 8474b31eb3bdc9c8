"""Every values file renders, passes lint and the schemas of each Kubernetes version, and is what was committed."""

import json
import os
import unittest
from functools import lru_cache

import kubernetes_validate
from kubernetes_validate import utils

import charts

# Kinds that come with an operator: kubernetes-validate has no schema for them. Anything else unknown is a mistake.
CRDS = {
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "cert-manager.io/v1/Certificate",
    "keda.sh/v1alpha1/ScaledObject",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
}
utils.schema_contents = lru_cache(None)(utils.schema_contents)


def kind_of(o):
    return f"{o['apiVersion']}/{o['kind']}"


class Rendered(unittest.TestCase):
    def test_lint_is_clean(self):
        for case in charts.cases():
            with self.subTest(case):
                done = charts.helm("lint", "--strict", "--quiet", "--values", case.values, charts.source(case.chart))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_valid_for_every_kubernetes(self):
        seen = set()
        for version in charts.VERSIONS:
            for case in charts.cases():
                for o in case.objects(version):
                    text = version + json.dumps(o, sort_keys=True)
                    if text in seen:
                        continue
                    seen.add(text)
                    with self.subTest(case=case, version=version, object=f"{kind_of(o)} {o['metadata']['name']}"):
                        self.validate(o, version)
        self.assertGreater(len(seen), 100)

    def validate(self, o, version):
        try:
            self.assertEqual(kubernetes_validate.validate(o, version, strict=True), version)
        except kubernetes_validate.SchemaNotFoundError:
            self.assertIn(kind_of(o), CRDS)

    def test_a_misspelt_field_is_found(self):
        o = next(o for o in charts.cases("natsway-sidecar-example")[0].objects() if o["kind"] == "Deployment")
        o["spec"]["template"]["spec"]["initContainers"][0]["restartPolicyX"] = "Always"
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(o, charts.VERSIONS[-1], strict=True)

    def test_goldens_unchanged(self):
        for case in charts.cases():
            if os.environ.get("BLESS"):
                case.golden.write_text(case.text())
            with self.subTest(case):
                self.assertTrue(case.golden.exists(), "run with BLESS=1 to write it")
                self.assertEqual(case.text(), case.golden.read_text(), "run with BLESS=1 if the change is meant")

    def test_no_golden_without_its_values(self):
        for chart in ("natsway", "natsway-sidecar-example"):
            have = {p.stem for p in (charts.CHARTS / chart / "golden").glob("*.yaml")}
            self.assertEqual(have, {c.name for c in charts.cases(chart)})

    def test_packages(self):
        for chart in ("natsway", "natsway-sidecar"):
            done = charts.helm("package", charts.CHARTS / chart, "-d", charts.ROOT / "target" / "chart-packages")
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()

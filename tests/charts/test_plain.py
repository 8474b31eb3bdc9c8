"""The plain YAML and the kustomize component hold the same sidecar as the library chart."""

import os
import subprocess
import unittest

import kubernetes_validate
import yaml

import charts
import pods

KUBERNETES = charts.ROOT / "deploy" / "kubernetes"


def kustomized():
    kubectl = os.environ.get("KUBECTL", "kubectl")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / "kustomize" / "example"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def sidecar(deployment):
    """What makes a pod have natsway, whatever else is in it."""
    _, metadata, spec = next(pods.templates([deployment]))
    annotations = {k: yaml.safe_load(v) for k, v in metadata["annotations"].items()}
    return annotations, spec["initContainers"], spec["volumes"], spec["containers"][0]["env"]


class SameSidecar(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        case = next(c for c in charts.cases("natsway-sidecar-example") if c.name == "default")
        cls.library = next(o for o in case.objects() if o["kind"] == "Deployment")
        cls.plain = yaml.safe_load((KUBERNETES / "sidecar.yaml").read_text())
        cls.kustomize = kustomized()

    def test_plain(self):
        self.assertEqual(sidecar(self.plain), sidecar(self.library))

    def test_kustomize(self):
        self.assertEqual(sidecar(self.kustomize), sidecar(self.library))

    def test_valid(self):
        for version in charts.VERSIONS:
            for o in (self.plain, self.kustomize):
                kubernetes_validate.validate(o, version, strict=True)


if __name__ == "__main__":
    unittest.main()

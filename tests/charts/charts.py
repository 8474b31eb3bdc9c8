"""Renders the charts with a real helm, and knows where everything lies."""

import json
import os
import shutil
import subprocess
from functools import lru_cache, wraps
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
HELM = os.environ.get("HELM", "helm")
RELEASE = "shop"
# The oldest version with native sidecars, the one that made them stable, and the newest there are schemas for.
VERSIONS = ["1.29", "1.33", "1.37"]


class Case:
    """One values file of one chart."""

    def __init__(self, chart, values):
        self.chart, self.values = chart, values
        self.name = values.name.removesuffix("-values.yaml")
        self.golden = CHARTS / chart / "golden" / f"{self.name}.yaml"

    def __repr__(self):
        return f"{self.chart}/{self.name}"

    def text(self, version=VERSIONS[1]):
        return rendered(self.chart, self.values, version)

    def objects(self, version=VERSIONS[1]):
        return [o for o in yaml.safe_load_all(self.text(version)) if o]


def cases(chart=None):
    """Every ci/ values file."""
    names = [chart] if chart else ["natsway", "natsway-sidecar-example"]
    return [Case(n, v) for n in names for v in sorted((CHARTS / n / "ci").glob("*-values.yaml"))]


def each(test):
    """Runs a test method once for everything its class's subjects() yields, (label, *arguments)."""

    @wraps(test)
    def run(self):
        count = 0
        for label, *arguments in self.subjects():
            count += 1
            with self.subTest(label):
                test(self, *arguments)
        self.assertGreater(count, 0)

    return run


def helm(*args):
    return subprocess.run([HELM, *map(str, args)], capture_output=True, text=True, timeout=120)


@lru_cache(None)
def source(chart):
    """The chart's folder; one with dependencies is built in a copy, so that the tree stays clean."""
    if not yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text()).get("dependencies"):
        return CHARTS / chart
    copy = ROOT / "target" / "charts"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CHARTS, copy)
    built = helm("dependency", "build", copy / chart)
    assert built.returncode == 0, built.stderr
    return copy / chart


def template(chart, *args, version=VERSIONS[1]):
    return helm("template", RELEASE, source(chart), "--kube-version", version, *args)


@lru_cache(None)
def rendered(chart, values, version):
    done = template(chart, "--values", values, version=version)
    assert done.returncode == 0, f"{values}: {done.stderr}"
    return done.stdout


def schema(chart):
    return json.loads((CHARTS / chart / "values.schema.json").read_text())


def values(chart):
    return yaml.safe_load((CHARTS / chart / "values.yaml").read_text())

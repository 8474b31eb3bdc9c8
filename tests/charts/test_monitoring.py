"""The chart carries the alerts and the dashboard that lie in deploy/."""

import json
import re
import unittest

import yaml

import charts

DEPLOY = charts.ROOT / "deploy"
COPIES = {
    "natsway.rules.yaml": DEPLOY / "prometheus" / "natsway.rules.yaml",
    "natsway.json": DEPLOY / "grafana" / "natsway.json",
}


class Monitoring(unittest.TestCase):
    def rendered(self):
        case = next(case for case in charts.cases("natsway") if case.name == "monitoring")
        return {o["kind"]: o for o in case.objects()}, yaml.safe_load(case.values.read_text())

    def test_the_copies_are_copies(self):
        for name, source in COPIES.items():
            with self.subTest(name):
                copy = charts.CHARTS / "natsway" / "files" / name
                self.assertEqual(copy.read_text(), source.read_text(), f"cp {source} {copy}")

    def test_all_alerts_but_the_disabled_ones_are_rendered(self):
        objects, values = self.rendered()
        disabled = values["metrics"]["prometheusRule"]["disabled"]
        groups = yaml.safe_load(COPIES["natsway.rules.yaml"].read_text())["groups"]
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if rule["alert"] not in disabled]
        self.assertEqual(objects["PrometheusRule"]["spec"]["groups"], groups)

    def test_the_error_budget_counts_every_failure_of_natsway_and_nats(self):
        """5xx but 501, which says what this NATS cannot do, and but for what the services behind natsway fail in."""
        page = (charts.ROOT / "docs" / "problems.md").read_text()
        rows = re.findall(r"^## ([a-z-]+)$.*?^\| (\d+) \| (\w+) \|", page, re.MULTILINE | re.DOTALL)
        failures = {code for code, status, source in rows if status[0] == "5" and status != "501" and source in ("bridge", "nats")}
        rules = yaml.safe_load(COPIES["natsway.rules.yaml"].read_text())["groups"][0]["rules"]
        burns = [rule["expr"] for rule in rules if rule["alert"].startswith("NatswayErrorBudget")]
        counted = [set(codes.split("|")) for expr in burns for codes in re.findall('code=~"([^"]*)"', expr)]
        self.assertEqual(counted, [failures] * 6)

    def test_the_dashboard_is_rendered_whole(self):
        case = next(case for case in charts.cases("natsway") if case.name == "monitoring")
        maps = [o for o in case.objects() if o["kind"] == "ConfigMap" and "natsway.json" in o["data"]]
        self.assertEqual(json.loads(maps[0]["data"]["natsway.json"]), json.loads(COPIES["natsway.json"].read_text()))


if __name__ == "__main__":
    unittest.main()

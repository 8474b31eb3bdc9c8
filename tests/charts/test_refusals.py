"""What must not render, and what it says then."""

import unittest

import charts

ACK = "ackTokens.existingSecret"
REFUSED = {
    # typos and wrong types, by the schema
    "--set replicaCont=2": "replicaCont",
    "--set image.tagg=1": "tagg",
    "--set nats.auth.existingSecrt=a": "existingSecrt",
    "--set probes.liveness.pth=/": "pth",
    "--set service.port=http": "port",
    "--set nats.auth.mode=jwt": "mode",
    "--set image.digest=sha256:abc": "digest",
    # natsway's own configuration, by natsway's own schema
    "--set config.nats.serverz[0]=nats://a": "serverz",
    "--set config.shutdown.graze=1s": "graze",
    "--set config.api.publish.confirm=maybe": "confirm",
    # more than one replica, acks served, no shared key
    "--set replicaCount=2": ACK,
    "--set autoscaling.enabled=true": ACK,
    "--set keda.enabled=true --set keda.triggers[0].type=cpu": ACK,
    "--set replicaCount=2 --set config.api.jetstream.enabled=true": ACK,
    "--set replicaCount=2 --set existingConfigMap=c --set config.api.jetstream.enabled=false": ACK,
    # values that contradict each other
    "--set autoscaling.enabled=true --set keda.enabled=true": "exclude",
    "--set keda.enabled=true": "keda.triggers",
    "--set metrics.serviceMonitor.enabled=true --set metrics.podMonitor.enabled=true": "twice",
    "--set metrics.serviceMonitor.enabled=true --set adminService.enabled=false": "adminService",
    "--set nats.auth.mode=creds": "nats.auth.existingSecret",
    "--set nats.auth.existingSecret=a": "nats.auth.mode",
    "--set nats.tls.existingSecret=a --set nats.tls.certKey=tls.crt": "keyKey",
    "--set nats.certManager.enabled=true": "issuerRef",
    "--set httpRoute.enabled=true": "parentRefs",
    "--set ingress.enabled=true": "ingress.hosts",
    "--set terminationGracePeriodSeconds=30": "terminationGracePeriodSeconds",
    "--set config.listen.data[0]=127.0.0.1:4280": "config.listen.data",
    "--set config.listen.admin=127.0.0.1:4281": "config.listen.admin",
    "--set config.listen.admin=0.0.0.0:0": "config.listen.admin",
    # secrets where everybody reads them
    "--set config.nats.auth.password=pw": "nats.auth.password would stand in a ConfigMap",
    "--set config.nats.auth.token=pw": "nats.auth.token",
    "--set config.nats.auth.nkey=SU": "nats.auth.nkey",
    "--set config.nats.auth.creds=pw": "nats.auth.creds",
    "--set config.nats.servers[0]=nats://shop:pw@nats:4222": "config.nats.servers",
    "--set config.nats.servers[0]=nats://token@nats:4222": "config.nats.servers",
    "--set config.ack_tokens.keys=k1:00": "config.ack_tokens.keys",
}
ACCEPTED = [
    "--set replicaCount=2 --set ackTokens.existingSecret=a",
    "--set replicaCount=2 --set config.ack_tokens.key_file=/keys",
    "--set replicaCount=2 --set config.api.jetstream.enabled=false",
    "--set replicaCount=2 --set config.api.jetstream=false",
    "--set autoscaling.enabled=true --set autoscaling.minReplicas=1 --set autoscaling.maxReplicas=1",
    "--set terminationGracePeriodSeconds=31",
    "--set config.nats.buffer.bytes=8MiB --set config.api.subscribe.buffer.messages=10",
    "--set config.nats.auth.user=shop --set config.nats.auth.password_file=/run/password",
]
SIDECAR_REFUSED = {
    "--set natsway-sidecar.config.nats.serverz[0]=nats://a": "serverz",
    "--set natsway-sidecar.admn=1": "admn",
    "--set natsway-sidecar.config.listen.data[0]=0.0.0.0:4280": "its own pod only",
    "--set natsway-sidecar.config.listen.admin=0.0.0.0:4281": "admin.podIP",
    "--set natsway-sidecar.extraEnv[0].name=NATSWAY_LISTEN__DATA --set natsway-sidecar.extraEnv[0].value=0.0.0.0:4280": "config.listen.data",
    "--set natsway-sidecar.extraEnv[0].name=NATSWAY_listen__data --set natsway-sidecar.extraEnv[0].value=0.0.0.0:4280": "config.listen.data",
    "--set natsway-sidecar.config.nats.auth.password=pw": "nats.auth.password would stand in an annotation",
    "--set natsway-sidecar.config.nats.servers[0]=nats://shop:pw@nats:4222": "config.nats.servers",
    "--set natsway-sidecar.config.ack_tokens.keys=k1:00": "config.ack_tokens.keys",
    "--set natsway-sidecar.nats.auth.mode=creds": "belong together",
    "--set natsway-sidecar.nats.tls.keyKey=k": "belong together",
}


class Refusals(unittest.TestCase):
    def refused(self, chart, table):
        for arguments, said in table.items():
            with self.subTest(arguments):
                done = charts.template(chart, *arguments.split())
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, done.stderr)

    def test_gateway(self):
        self.refused("natsway", REFUSED)

    def test_sidecar(self):
        self.refused("natsway-sidecar-example", SIDECAR_REFUSED)

    def test_what_is_safe_renders(self):
        for arguments in ACCEPTED:
            with self.subTest(arguments):
                done = charts.template("natsway", *arguments.split())
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()

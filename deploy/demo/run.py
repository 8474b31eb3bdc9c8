"""Starts the example and everything it needs, each as its own process, until Ctrl-C.

`s` and Enter stops the stock service, and starts it again.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
# Never through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SOON_S = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Demo:
    def __init__(self, folder, fixed_ports):
        self.folder, self.running = Path(folder), {}
        ports = (8080, 4280, 4281, 4290, 4291) if fixed_ports else [free_port() for _ in range(5)]
        self.page, self.orders, self.orders_admin, self.stock, self.stock_admin = ports

    def start(self, name, *command, **env):
        # A group of its own: Ctrl-C reaches this script alone, which ends them in order.
        self.running[name] = subprocess.Popen(
            [str(c) for c in command], env=os.environ | env, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def stop(self, name):
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(SOON_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_nats(self):
        log = self.folder / "nats.log"
        self.start(
            "nats-server", os.environ["NATS_SERVER_BIN"], "--jetstream", "--addr", "127.0.0.1", "--port", "-1",
            "--store_dir", self.folder / "jetstream", "--ports_file_dir", self.folder, "--log", log,
        )  # fmt: skip
        ports = self.until("nats-server listens", lambda: next((p.read_text() for p in self.folder.glob("*.ports")), None))
        return ports.split('"nats":')[1].split('"')[1]

    def start_natsway(self, name, data, admin, nats):
        self.start(
            f"natsway for {name}", os.environ["NATSWAY_BIN"], "--config", HERE / name / "natsway.yaml",
            NATSWAY_NATS__SERVERS=nats, NATSWAY_LISTEN__DATA=f"127.0.0.1:{data}", NATSWAY_LISTEN__ADMIN=f"127.0.0.1:{admin}",
            NATSWAY_TELEMETRY__LOG__LEVEL="warn",
        )  # fmt: skip
        self.until(f"natsway for {name} is ready", lambda: answers(f"http://127.0.0.1:{admin}/readyz"))

    def start_stock(self):
        self.start("stock", "node", HERE / "stock" / "stock.mjs", NATSWAY_URL=f"http://127.0.0.1:{self.stock}")

    def start_all(self):
        nats = self.start_nats()
        self.start_natsway("orders", self.orders, self.orders_admin, nats)
        self.start_natsway("stock", self.stock, self.stock_admin, nats)
        self.start("pricing", sys.executable, HERE / "pricing" / "pricing.py", NATS_URL=nats)
        self.start(
            "orders", sys.executable, HERE / "orders" / "orders.py",
            NATSWAY_URL=f"http://127.0.0.1:{self.orders}", PORT=str(self.page),
        )  # fmt: skip
        self.start_stock()
        self.until("the page is there", lambda: answers(f"http://127.0.0.1:{self.page}/"))

    def toggle_stock(self):
        if "stock" in self.running:
            self.stop("stock")
            print("demo: the stock service is stopped; order something, then s and Enter starts it again", flush=True)
        else:
            self.start_stock()
            print("demo: the stock service is started", flush=True)

    def until(self, what, condition):
        deadline = time.monotonic() + SOON_S
        while time.monotonic() < deadline:
            for name, process in self.running.items():
                if process.poll() is not None:
                    sys.exit(f"demo: {name} ended with {process.returncode} while waiting until {what}")
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        sys.exit(f"demo: not within {SOON_S} s: {what}")

    def stop_all(self):
        for name in reversed(list(self.running)):
            self.stop(name)


def answers(url):
    try:
        with DIRECT.open(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--free-ports", action="store_true", help="instead of 8080, 4280 and 4290")
    arguments.add_argument("--prepare", action="store_true", help="only fetch and build what is needed")
    options = arguments.parse_args()
    if options.prepare:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(folder, not options.free_ports)
        try:
            demo.start_all()
            print(f"demo: open http://127.0.0.1:{demo.page}/", flush=True)
            print("demo: s and Enter stops the stock service and starts it again, Ctrl-C ends", flush=True)
            for line in sys.stdin:
                if line.strip() == "s":
                    demo.toggle_stock()
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            demo.stop_all()


if __name__ == "__main__":
    main()

"""Takes orders over HTTP and shows them live.

Speaks to NATS through the natsway beside it, with nothing but `requests`.
"""

import json
import os
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

NATSWAY = os.environ.get("NATSWAY_URL", "http://127.0.0.1:4280")
ADDRESS = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
PAGE = Path(__file__).with_name("page.html")
STREAM = {"subjects": ["order.*", "stock.*"], "storage": "file", "duplicate_window": 120_000_000_000}
DEADLINE_S = 10


class Refused(Exception):
    """An answer that is the caller's to know."""

    def __init__(self, status, problem):
        super().__init__(status, problem)
        self.status, self.problem = status, problem


def natsway(method, path, wait_s=DEADLINE_S, **request):
    """One call. A problem says itself whether trying again is safe, so that is all there is to it."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            answer = requests.request(method, NATSWAY + path, timeout=DEADLINE_S, **request)
        except requests.ConnectionError:
            problem, status, again = {"detail": "natsway does not listen"}, 503, True
        else:
            if answer.ok:
                return answer
            problem, status = answer.json(), answer.status_code
            again = problem["retryable"]
        if not again or time.monotonic() > deadline:
            raise Refused(status, problem)
        time.sleep(0.2)


def order(wanted):
    sku, quantity = str(wanted["sku"]), int(wanted["quantity"])
    if quantity < 1:
        raise Refused(400, {"detail": "At least one, please."})
    quote = natsway("POST", "/v1/request/pricing.quote?timeout=2s", json={"sku": sku, "quantity": quantity}).json()
    created = {"id": uuid.uuid4().hex[:8], "sku": sku, "quantity": quantity, "price": quote["price"]}
    # 200 means that the stream has it. The key makes a repeat harmless, whatever happened to the first try.
    stored = natsway(
        "POST",
        "/v1/publish/order.created?confirm=stream",
        json=created,
        headers={"Idempotency-Key": created["id"]},
    )
    return created | {"seq": stored.json()["seq"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            self.answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/feed":
            self.feed()
        else:
            self.answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/orders":
            return self.answer(404, b"")
        try:
            self.json(201, order(json.loads(body)))
        except (KeyError, TypeError, ValueError):
            self.json(400, {"detail": "An order has a sku and a quantity."})
        except Refused as refused:
            self.json(refused.status, refused.problem)

    def feed(self):
        """Everything that ever happened, then what happens: the browser's position goes to natsway as it came."""
        headers = {"Accept": "text/event-stream"}
        if self.headers.get("Last-Event-ID"):
            headers["Last-Event-ID"] = self.headers["Last-Event-ID"]
        url = NATSWAY + "/v1/streams/ORDERS/subscribe?from=all&errors=event"
        try:
            # Read no longer than two keep-alives in silence.
            with requests.get(url, headers=headers, stream=True, timeout=(DEADLINE_S, 40)) as events:
                self.send_response(events.status_code)
                self.send_header("Content-Type", events.headers["Content-Type"])
                self.send_header("Cache-Control", "no-store")
                self.send_header("Connection", "close")
                self.end_headers()
                for piece in events.raw.stream(65536):
                    self.wfile.write(piece)
                    self.wfile.flush()
        except (requests.RequestException, OSError):
            pass  # Either end went away: EventSource comes again with its position.
        self.close_connection = True

    def json(self, status, value):
        self.answer(status, json.dumps(value).encode(), "application/json")

    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, text, *arguments):
        print("orders:", text % arguments, flush=True)


if __name__ == "__main__":
    natsway("PUT", "/v1/streams/ORDERS", wait_s=60, json=STREAM)
    server = ThreadingHTTPServer(ADDRESS, Handler)
    server.daemon_threads = True
    print("orders: listening on http://%s:%d" % server.server_address, flush=True)
    server.serve_forever()

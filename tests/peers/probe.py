"""What the clients' era detection makes of each answer to `server/discover`.

The gateway's rules for that answer rest on what the clients conclude, and a wrong conclusion is kept for good. A mock
server gives each answer in turn; a client that concludes otherwise than the table says is a failure here, and a reason
to look at those rules again.

Not here: the gateway; it is not in the path.
"""

import concurrent.futures
import http.server
import json
import threading

import clients
import harness

MODERN = "2026-07-28"
DISCOVERED = {
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
    "supportedVersions": [MODERN],
    "capabilities": {},
}
INITIALIZED = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "mock", "version": "1"}}
UNSUPPORTED = {"code": -32022, "message": "Unsupported", "data": {"supported": [MODERN], "requested": "1999-01-01"}}


def error(code, message="No", data=None):
    return {"error": {"code": code, "message": message, **({"data": data} if data else {})}}


# (case, status, body, TypeScript, Python). The body is a JSON-RPC member, a text, None for none, or CLOSE or HANG. The
# conclusion is modern, legacy (it went on to `initialize`) or error (it gave up, and the era stays open).
CLOSE, HANG, RETRY = "close", "hang", "retry"
TABLE = [
    ("result", 200, {"result": DISCOVERED}, "modern", "modern"),
    ("result-without-modern", 200, {"result": {**DISCOVERED, "supportedVersions": ["2025-11-25"]}}, "legacy", "legacy"),
    ("unsupported-version-first", RETRY, {"error": UNSUPPORTED}, "modern", "modern"),
    ("401-json-rpc", 401, error(-33401), "error", "legacy"),
    ("401-empty", 401, None, "error", "legacy"),
    ("403-json-rpc", 403, error(-33403), "error", "legacy"),
    ("404-method-not-found", 404, error(-32601), "legacy", "legacy"),
    ("404-text", 404, "not found", "legacy", "legacy"),
    ("413-json-rpc", 413, error(-33413), "legacy", "legacy"),
    ("429-json-rpc", 429, error(-33429), "legacy", "legacy"),
    ("429-empty", 429, None, "legacy", "legacy"),
    ("400-not-initialized", 400, error(-32000), "legacy", "legacy"),
    ("400-header-mismatch", 400, error(-32020), "legacy", "legacy"),
    ("400-missing-capability", 400, error(-32021, data={"requiredCapabilities": {}}), "legacy", "legacy"),
    ("200-method-not-found", 200, error(-32601), "legacy", "legacy"),
    ("200-gateway-refusal", 200, error(-33503), "legacy", "legacy"),
    ("500-text", 500, "oops", "error", "legacy"),
    ("503-empty", 503, None, "error", "legacy"),
    ("503-json-rpc", 503, error(-33503), "error", "legacy"),
    ("closed", CLOSE, None, "error", "error"),
    ("silent", HANG, None, "error", "legacy"),
]
CLIENTS = {"typescript/auto": 3, "python/auto": 4}


class Mock(http.server.ThreadingHTTPServer):
    """Serves each row of the table on its own path, and remembers which methods came there."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = {}
        self.stopping = threading.Event()

    def handle_error(self, request, client_address):
        """A client that leaves in the middle of an answer is no error of the mock."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(405, None)

    do_DELETE = do_GET

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen = self.server.seen.setdefault(self.path, [])
        seen.append(message["method"])
        if message["method"] == "initialize":
            return self.answer(200, {"jsonrpc": "2.0", "id": message["id"], "result": INITIALIZED})
        if message["method"] != "server/discover":
            return self.answer(202, None)
        case = self.path.rsplit("/", 1)[1]
        _, status, body, *_ = next(row for row in TABLE if row[0] == case)
        if status == RETRY:
            first = seen.count("server/discover") == 1
            status, body = (400, body) if first else (200, {"result": DISCOVERED})
        if status == CLOSE:
            self.close_connection = True
            return None
        if status == HANG:
            self.server.stopping.wait(20)
            self.close_connection = True
            return None
        if isinstance(body, dict):
            body = {"jsonrpc": "2.0", "id": message["id"], **body}
        return self.answer(status, body)

    def answer(self, status, body):
        kind = "application/json" if isinstance(body, dict) else "text/plain"
        data = b"" if body is None else (json.dumps(body) if isinstance(body, dict) else body).encode()
        self.send_response(status)
        if data:
            self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def conclusion(mock, client, case):
    path = f"/{client.replace('/', '-')}/{case}"
    url = f"http://localhost:{mock.server_port}{path}"
    env = {"PEERS_PROBE_MS": "700"} if case == "silent" else {}
    steps = [{"play": "info", "title": "info"}]
    done = harness.run(*clients.CLIENTS[client], url, json.dumps(steps), timeout=30, env=env)
    seen = mock.seen.get(path, [])
    try:
        outcomes = {outcome["step"]: outcome for outcome in json.loads(done.stdout)}
    except ValueError:
        return f"nothing: {done.stderr[-300:]}", seen
    version = outcomes.get("info", {}).get("ok", {}).get("version")
    if version == MODERN:
        return "modern", seen
    if "initialize" in seen:
        return "legacy", seen
    return ("error" if "error" in outcomes["connect"] else f"version {version}"), seen


def main():
    tally = harness.Tally("probe")
    mock = Mock()
    threading.Thread(target=mock.serve_forever, daemon=True).start()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [
            (client, row, pool.submit(conclusion, mock, client, row[0])) for row in TABLE for client in CLIENTS
        ]
        for client, row, future in futures:
            found, seen = future.result()
            expected = row[CLIENTS[client]]
            tally.check(f"{client} on {row[0]}", found == expected, f"expected {expected}, found {found}; saw {seen}")
            asked = seen.count("server/discover")
            tally.check(f"{client} on {row[0]}: asks", asked == (2 if row[1] == RETRY else 1), f"saw {seen}")
    mock.stopping.set()
    mock.shutdown()
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

"""A listener with TLS, and the clients that people use: curl on HTTP/1.1 and HTTP/2, `h2`, and the SDK clients.

Not here: frames and handshakes that no honest client sends.
"""

import contextlib
import json
import tempfile

import clients
import harness

PLAIN = "test_simple_text"
SAYS = "This is a simple text response for testing."
STEPS = [
    {"play": "info", "shows": "A fixture for tests."},
    {"play": "tools", "shows": PLAIN},
    {"play": "call", "name": PLAIN, "shows": SAYS},
    {"play": "call", "name": "large_result", "arguments": {"bytes": 300_000}, "shows": "<300000 characters"},
]


class Bench:
    """The gateway behind TLS, with IDENTITY; MORE are further members of the listener's `tls`."""

    def __init__(self, stack, directory, identity, more):
        self.directory = directory
        self.key = None
        server = stack.enter_context(harness.typescript_server("dual"))
        tls = {"cert": f"{directory}/server.pem", "key": f"{directory}/server.key", **more}
        listen = json.dumps([{"address": "127.0.0.1:0", "tls": tls}])
        plain = stack.enter_context(harness.gateway(harness.upstream_url(server), json.dumps(identity), listen))
        self.url = plain.replace("http:", "https:")
        self.port = self.url.split(":")[2].split("/")[0]

    @property
    def ca(self):
        return f"{self.directory}/ca.pem"

    def curl(self, *options):
        """What curl says of one call: its exit status, `VERSION STATUS`, the body, its complaint."""
        body, headers = harness.message("tools/call", PLAIN)
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        lines = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        shown = ["-sS", "--max-time", "10", "-w", "\n%{http_version} %{http_code}", "-d", json.dumps(body)]
        done = harness.run("curl", *shown, *lines, *options, self.url, timeout=20)
        said, _, last = done.stdout.rpartition("\n")
        return done.returncode, last, said, done.stderr


def curl(tally, bench):
    trusting = ("--cacert", bench.ca)
    for option, version in (("--http1.1", "1.1"), ("--http2", "2"), ("--http2-prior-knowledge", "2")):
        for newest in ("1.2", "1.3"):
            status, last, said, error = bench.curl(*trusting, option, "--tls-max", newest)
            right = status == 0 and last == f"{version} 200" and SAYS in said
            tally.check(f"curl {option}, TLS {newest}", right, f"{status} {last} {said[:300]} {error}")
    # 60: the certificate is not trusted; 35: no handshake.
    status, *found = bench.curl()
    tally.check("curl without the authority", status == 60, f"{status} {found}")
    status, *found = bench.curl(*trusting, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    tally.check("curl with TLS 1.1", status == 35, f"{status} {found}")
    plain = bench.url.replace("https:", "http:")
    done = harness.run("curl", "-sS", "--max-time", "10", plain, timeout=20)
    tally.check("curl without TLS", done.returncode != 0 and SAYS not in done.stdout, done.stdout + done.stderr)


def http2(tally, bench):
    """Several requests on one connection, by `h2`."""
    body, headers = harness.message("tools/call", PLAIN)
    known = headers | {"authorization": f"Bearer {bench.key}"}
    requests = [[known, json.dumps(body | {"id": number})] for number in range(20)]
    requests += [[headers, json.dumps(body)], [{"accept": "text/event-stream"}, None]]
    done = harness.run(
        harness.PYTHON, "drivers/http2.py", bench.port, bench.ca, "/mcp/up", json.dumps(requests), timeout=20
    )
    if not tally.check("h2: the connection", done.returncode == 0, done.stderr[-600:]):
        return
    found = json.loads(done.stdout)
    tally.check("h2: ALPN", found["protocol"] == "h2" and found["tls"] == "TLSv1.3", found["tls"])
    *good, unknown, listening = found["answers"]
    for number, answer in enumerate(good):
        own = SAYS in answer["body"] and f'"id":{number}' in answer["body"].replace(" ", "")
        right = answer["headers"].get(":status") == "200" and own
        tally.check(f"h2: request {number}", right, answer)
    for what, answer in (("call", unknown), ("GET", listening)):
        tally.check(f"h2: {what} without a key", answer["headers"].get(":status") == "401", answer)
    # RFC 9113 6.5.2: 3 is SETTINGS_MAX_CONCURRENT_STREAMS; without it there is no bound.
    tally.check("h2: streams are bounded", 0 < found["settings"].get("3", 2**32) <= 1000, found["settings"])


def sdk_clients(tally, bench):
    trust = {"PEERS_KEY": bench.key, "PEERS_CA": bench.ca, "NODE_EXTRA_CA_CERTS": bench.ca}
    for client in ("typescript/auto", "typescript/legacy", "python/auto", "python/legacy"):
        modern = client in clients.AUTO
        steps = clients.titled(STEPS, modern, False)
        outcomes = clients.play(client, bench.url, steps, trust)
        if client.startswith("python"):
            found = clients.as_text(outcomes.get("1 info") if isinstance(outcomes, dict) else outcomes)
            tally.check(f"{client}: HTTP/2", '"http": "HTTP/2"' in found, found[:300])
        for index, step in enumerate(steps, 1):
            outcome = outcomes.get(f"{index} {step['title']}") if isinstance(outcomes, dict) else outcomes
            text = clients.as_text(outcome)
            tally.check(f"{client}: {step['title']}", step["shows"] in text and not clients.failed(outcome), text[:600])


def certificates(tally, bench):
    """Who has a certificate is somebody; who has none, or one that was revoked, gets no answer at all."""
    trusting = ("--cacert", bench.ca)

    def shows(name):
        return ("--cert", f"{bench.directory}/{name}.pem", "--key", f"{bench.directory}/{name}.key")

    for option, version in (("--http1.1", "1.1"), ("--http2", "2")):
        status, last, said, error = bench.curl(*trusting, *shows("client"), option)
        right = status == 0 and last == f"{version} 200" and SAYS in said
        tally.check(f"curl {option} with a certificate", right, f"{status} {last} {said[:300]} {error}")
        for what, shown in (("no certificate", ()), ("a revoked certificate", shows("revoked"))):
            status, last, said, error = bench.curl(*trusting, *shown, option)
            # No answer; the alert itself may be lost where curl has sent its request already (TLS 1.3).
            refused = status != 0 and last.endswith(" 000")
            tally.check(f"curl {option} with {what}", refused, f"{status} {last} {said[:300]} {error}")


def main():
    tally = harness.Tally("tls")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        made = harness.run(harness.PYTHON, "drivers/certificate.py", directory, timeout=20)
        tally.check("certificates", made.returncode == 0, made.stderr)
        keys, key = clients.add_key(directory)
        bench = Bench(stack, directory, {"apiKeys": {"file": str(keys)}}, {})
        bench.key = key
        for part in (curl, http2, sdk_clients):
            tally.part(part, bench)
        asking = {"clientCa": f"{directory}/ca.pem", "crl": f"{directory}/crl.pem"}
        tally.part(certificates, Bench(stack, directory, {"mtls": {"principal": "sanUri"}}, asking))
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

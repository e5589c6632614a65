"""A call that an external decision point decides (fixtures/opa.py), and one that it does not answer.

Not here: the gateway's own rules.
"""

import concurrent.futures
import contextlib
import json
import tempfile
import time

import clients
import harness

PLAIN, PRIVATE, AMOUNT = "test_simple_text", "structured_result", "large_result"
TIMEOUT = 0.3
CACHED = 1


class Bench:
    """The gateway between a fixture that records what reaches it and the decision point."""

    def __init__(self, stack, directory):
        self.keys = {}
        self.labels = {"labels": {"tools": {PRIVATE: ["pii"]}}}
        if not harness.reads(self.labels):
            print("opa: this version has no labels; they are not in the input")
            self.labels = {}
        for name, roles in (("support", "support"), ("finance", "support,finance")):
            self.file, self.keys[name] = clients.add_key(directory, name, roles)
        server = stack.enter_context(harness.typescript_server("dual"))
        self.recorder = stack.enter_context(harness.Recorder(server))
        self.point = stack.enter_context(contextlib.ExitStack())
        port = self.point.enter_context(harness.process(harness.PYTHON, "fixtures/opa.py"))
        self.control = f"http://127.0.0.1:{port}/control/set"
        rule = {
            "name": "opa",
            "opa": f"http://127.0.0.1:{port}/v1/data/mcp/decision",
            "timeout": f"{int(TIMEOUT * 1000)}ms",
            "onError": "deny",
            "cacheFor": f"{CACHED}s",
        }
        self.url = stack.enter_context(
            harness.gateway(
                harness.upstream_url(self.recorder.port),
                json.dumps({"apiKeys": {"file": str(self.file)}}),
                server=self.labels,
                more=f"access: {json.dumps([rule])}",
            )
        )

    def inputs(self, **change):
        return harness.ask(self.control, change).json["inputs"]

    def call(self, who, tool, arguments=None):
        return harness.call(self.url, tool, self.keys[who], arguments)

    def refused(self, tally, what, who, tool, arguments=None):
        before = self.recorder.bytes.count(tool.encode())
        answer = self.call(who, tool, arguments)
        right = answer.status == 403 and '"forbidden"' in answer.text and "access.opa" in answer.text
        tally.check(f"{what}: refused", right, answer)
        tally.check(f"{what}: stays here", self.recorder.bytes.count(tool.encode()) == before)

    def allowed(self, tally, what, who, tool, arguments=None):
        answer = self.call(who, tool, arguments)
        tally.check(f"{what}: allowed", answer.status == 200 and '"result"' in answer.text, answer)


def decisions(tally, bench):
    bench.allowed(tally, "a plain tool", "support", PLAIN)
    given = bench.inputs()[-1]
    wanted = {"principal": "support", "roles": ["support"], "server": "up", "tool": PLAIN, "args": {}}
    tally.check("the input", wanted.items() <= given.items(), given)
    tally.check("the input's keys", {"tenant", "annotations", "labels"} <= given.keys(), given)
    bench.refused(tally, "personal data for support", "support", PRIVATE)
    if bench.labels:
        tally.check("the label", bench.inputs()[-1]["labels"] == ["pii"], bench.inputs()[-1])
    bench.allowed(tally, "personal data for finance", "finance", PRIVATE)
    bench.allowed(tally, "a small amount", "support", AMOUNT, {"bytes": 1000})
    bench.refused(tally, "a large amount", "support", AMOUNT, {"bytes": 1001})


def questions(tally, bench):
    """Equal inputs are one question for as long as the answer may be kept."""
    before = len(bench.inputs())
    same = {"bytes": 17}
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as many:
        found = list(many.map(lambda _: bench.call("support", AMOUNT, same).status, range(20)))
    tally.check("equal inputs: answered", found == [200] * 20, found)
    asked = len(bench.inputs()) - before
    tally.check("equal inputs: asked once", asked == 1 or time.monotonic() - started > CACHED, f"{asked} questions")
    bench.call("support", AMOUNT, {"bytes": 18})
    tally.check("another input: asked", len(bench.inputs()) - before == asked + 1)


def clients_told(tally, bench):
    steps = [
        {"play": "call", "name": PLAIN, "shows": "This is a simple text response"},
        {"play": "call", "name": PRIVATE, "shows": "forbidden", "fails": True},
    ]
    for client in ("typescript/auto", "python/legacy"):
        chosen = clients.titled(steps, False, False)
        outcomes = clients.play(client, bench.url, chosen, {"PEERS_KEY": bench.keys["support"]})
        for index, step in enumerate(chosen, 1):
            outcome = (
                outcomes.get(f"{index} {step['title']}", {}) if isinstance(outcomes, dict) else {"error": outcomes}
            )
            text = clients.as_text(outcome)
            right = clients.failed(outcome) == step.get("fails", False) and ("fails" in step or step["shows"] in text)
            tally.check(f"{client}: {step['title']}", right, text[:600])


def silence(tally, bench):
    """Whatever the point does, a call that it has not allowed is refused, and in time."""
    answers = {
        "an error": [500, {"code": "internal_error"}],
        "no document": [200, {}],
        "a text": [200, "allow"],
        "another type": [200, {"result": "true"}],
        "an empty object": [200, {"result": {}}],
    }
    for size, (what, answer) in enumerate(answers.items()):
        bench.inputs(answer=answer)
        bench.refused(tally, what, "support", AMOUNT, {"bytes": 100 + size})
    bench.inputs(answer=None, delay=5)
    started = time.monotonic()
    bench.refused(tally, "no answer in time", "support", AMOUNT, {"bytes": 201})
    waited = time.monotonic() - started
    tally.check("no answer in time: waited", TIMEOUT * 0.9 <= waited < TIMEOUT + 1, f"{waited:.2f} s")
    bench.inputs(delay=0)
    bench.allowed(tally, "afterwards", "support", AMOUNT, {"bytes": 202})
    bench.point.close()
    bench.refused(tally, "nobody there", "support", AMOUNT, {"bytes": 203})


def main():
    tally = harness.Tally("opa")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        bench = Bench(stack, directory)
        for part in (decisions, questions, clients_told, silence):
            tally.part(part, bench)
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

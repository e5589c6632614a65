"""The official conformance suite, direct and through the gateway, compared check by check.

The server suite runs against the TypeScript and the Python fixture on every wire, and against the Rust one on the
newest wire of each era; the client suite runs with `fixtures/client.mjs`, directly and behind a gateway (`wrap`). A
check that passes direct must pass through the gateway; one that fails direct may pass. The naive proxy beside it shows
whether a loss is the gateway's. The newest wire of each era runs again behind a gateway that takes the tokens of a real
provider and has access rules; the naive proxy adds the token, which the suite cannot send.

Not here: what the suite checks.
"""

import collections
import concurrent.futures
import json
import pathlib
import re
import tempfile

import harness
import identity

# What the TypeScript fixture reaches direct: (scenarios, passed, failed). Less means that the fixture or the suite
# has changed, and that the comparison would be against a weaker baseline.
DIRECT = {
    "2025-11-25": (33, 84, 0),
    "2026-07-28": (40, 152, 0),
    "2025-06-18": (27, 56, 0),
    "2025-03-26": (1, 3, 0),
}
NEWEST = ["2025-11-25", "2026-07-28"]
# The same of the Rust fixture, which answers newer clients with event streams, too: one check more. Its SDK speaks the
# two older wires as well; they are left out for their time.
RUST = {
    "2025-11-25": (33, 84, 0),
    "2026-07-28": (40, 153, 0),
}
DIRECT_OF = {"typescript": DIRECT, "python": DIRECT, "rust": RUST}
CLIENT_SCENARIOS = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ],
    "2026-07-28": [
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
}
SEVERITY = {"INFO": 0, "SUCCESS": 1, "SKIPPED": 2, "WARNING": 3, "FAILURE": 4}


class Result:
    """The checks of one run: the worst status of each (scenario, check id), and the plain counts."""

    def __init__(self):
        self.worst = {}
        self.reason = {}
        self.counts = collections.Counter()
        self.scenarios = set()

    def add(self, scenario, checks):
        self.scenarios.add(scenario)
        for check in checks:
            status = check["status"]
            self.counts[status] += 1
            key = (scenario, check["id"])
            if SEVERITY[status] > SEVERITY.get(self.worst.get(key), -1):
                self.worst[key] = status
                self.reason[key] = check.get("errorMessage", "")

    def failed(self, scenario, why):
        """A run that could not be made counts as a failed check of its own."""
        self.add(scenario, [{"id": "run", "status": "FAILURE", "errorMessage": why}])

    @property
    def score(self):
        return f"{self.counts['SUCCESS']}/{self.counts['FAILURE']}"


def read(directory, prefix):
    """The checks that the harness left in DIRECTORY."""
    result = Result()
    for file in sorted(pathlib.Path(directory).glob("*/checks.json")) + sorted(
        pathlib.Path(directory).glob("*/*/checks.json")
    ):
        name = str(file.parent.relative_to(directory))
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", name).removeprefix(prefix)
        result.add(scenario, json.loads(file.read_text()))
    return result


def server_suite(url, wire):
    with tempfile.TemporaryDirectory() as out:
        command = ["conformance", "server", "--url", url, "--suite", "all", "--spec-version", wire, "-o", out]
        done = harness.run(harness.BIN / command[0], *command[1:], timeout=90)
        result = read(out, "server-")
    if not result.scenarios or done.returncode == 124:
        result.failed("-", (done.stdout + done.stderr)[-500:])
    return result


def client_scenario(command, wire, scenario, env):
    with tempfile.TemporaryDirectory() as out:
        arguments = ["client", "--command", command, "--scenario", scenario, "--spec-version", wire, "-o", out]
        done = harness.run(harness.BIN / "conformance", *arguments, timeout=60, env=env)
        result = read(out, "")
    if not result.scenarios or done.returncode == 124:
        result.failed(scenario, (done.stdout + done.stderr)[-500:])
    elif done.returncode != 0:
        # All checks may pass while the client itself fell over.
        result.add(scenario, [{"id": "exit", "status": "FAILURE", "errorMessage": done.stderr[-500:]}])
    else:
        result.add(scenario, [{"id": "exit", "status": "INFO"}])
    return result


def client_suite(command, wire, env=None):
    """The scenarios two at a time: they mostly wait."""
    total = Result()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda name: client_scenario(command, wire, name, env), CLIENT_SCENARIOS[wire]):
            total.scenarios |= result.scenarios
            total.counts += result.counts
            total.worst |= result.worst
            total.reason |= result.reason
    return total


def read_exceptions(file="exceptions.txt"):
    lines = (harness.HERE / file).read_text().splitlines()
    entries = [line.split(None, 3) for line in lines if line.strip() and not line.startswith("#")]
    return {(group, scenario, check): reason for group, scenario, check, reason in entries}


def worse(direct, through):
    """The checks that pass, or are missing, direct and stand worse through the gateway, and those that vanished."""
    for key in sorted(direct.worst.keys() | through.worst.keys()):
        before = direct.worst.get(key)
        after = through.worst.get(key)
        if before is None and after not in ("WARNING", "FAILURE"):
            continue
        if before == "INFO" and after is None:
            continue
        # A pass that has become a mere remark was not checked any more.
        vanished = after is None or (before == "SUCCESS" and after == "INFO")
        if vanished or SEVERITY[after] > SEVERITY.get(before, 1):
            yield key, before, after


def better(direct, through):
    return sum(
        SEVERITY[status] > SEVERITY["SKIPPED"] and SEVERITY.get(through.worst.get(key), 9) < SEVERITY[status]
        for key, status in direct.worst.items()
    )


class Comparison:
    def __init__(self, tally):
        self.tally = tally
        self.rows = []
        self.exceptions = read_exceptions()
        self.used = set()

    def add(self, group, direct, naive, through):
        lost = []
        for key, before, after in worse(direct, through):
            entry = (group, *key)
            if entry in self.exceptions:
                self.used.add(entry)
                continue
            lost.append(key)
            also = ", and through the naive proxy" if naive and key in {k for k, *_ in worse(direct, naive)} else ""
            why = through.reason.get(key, "")
            self.tally.check(f"{group} {key[0]} {key[1]}", False, f"direct {before}, through {after}{also}: {why}")
        kept = sum(1 for status in direct.worst.values() if status == "SUCCESS") - len(lost)
        # A check may pass several times in one scenario; none of them may go missing unseen.
        fewer = not lost and through.counts["SUCCESS"] < direct.counts["SUCCESS"]
        self.tally.check(f"{group}: as many passes", kept > 0 and not fewer, f"{direct.score} and {through.score}")
        self.tally.passed += max(kept - 1, 0)
        self.rows.append(
            (
                group,
                str(len(direct.scenarios)),
                direct.score,
                naive.score if naive else "-",
                through.score,
                str(len(lost)),
                str(better(direct, through)),
            )
        )

    def show(self):
        for entry in sorted(self.exceptions.keys() - self.used):
            self.tally.check(f"exception not needed: {' '.join(entry)}", False)
        header = ("suite", "scenarios", "direct", "naive", harness.GATEWAY, "lost", "gained")
        widths = [max(len(row[i]) for row in [header, *self.rows]) for i in range(len(header))]
        for row in [header, *self.rows]:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def fixture(kind, wire):
    if kind == "python":
        return harness.python_server()
    if kind == "rust":
        return harness.rust_server()
    return harness.typescript_server("modern" if wire >= "2026" else "legacy")


def check_baseline(tally, group, result, expected):
    found = (len(result.scenarios), result.counts["SUCCESS"], result.counts["FAILURE"])
    tally.check(f"{group}: direct run", found == expected, f"expected {expected}, found {found}")
    for key, status in result.worst.items():
        if status == "FAILURE":
            print(f"    direct: {key[0]} {key[1]}: {result.reason[key]}")


def server_runs(kind):
    """The three runs of each wire, one after the other, because the notifications of a server go to all its clients."""
    runs = []
    for wire in DIRECT_OF[kind]:
        with fixture(kind, wire) as port:
            upstream = harness.upstream_url(port)
            direct = server_suite(upstream.replace("127.0.0.1", "localhost"), wire)
            with harness.naive(upstream) as url:
                naive = server_suite(url, wire)
            with harness.gateway(upstream) as url:
                through = server_suite(url, wire)
        runs.append((f"server/{kind}/{wire}", DIRECT_OF[kind][wire], direct, naive, through))
    return runs


def with_identity(wire):
    """The direct run, and one through a gateway where nobody is anonymous."""
    with fixture("typescript", wire) as port, harness.provider() as provider:
        upstream = harness.upstream_url(port)
        direct = server_suite(upstream.replace("127.0.0.1", "localhost"), wire)
        with identity.guarded(upstream, identity.Provider(provider)) as url:
            token = identity.Provider(provider).token(url, "+".join(identity.SCOPES))
            with harness.naive(url.replace("127.0.0.1", "localhost"), token) as injecting:
                through = server_suite(injecting, wire)
            refused = server_suite(url.replace("127.0.0.1", "localhost"), wire)
    return direct, through, refused


def identity_runs(tally, comparison):
    for wire in NEWEST:
        direct, through, refused = with_identity(wire)
        group = f"identity/typescript/{wire}"
        check_baseline(tally, group, direct, DIRECT[wire])
        comparison.add(group, direct, None, through)
        # Without the token nearly nothing passes; else the run above would show nothing.
        most_fail = refused.counts["SUCCESS"] < direct.counts["SUCCESS"] / 2
        tally.check(f"{group}: without a token", most_fail, refused.score)


def main():
    tally = harness.Tally("conformance")
    comparison = Comparison(tally)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for runs in pool.map(server_runs, DIRECT_OF):
            for group, expected, direct, naive, through in runs:
                check_baseline(tally, group, direct, expected)
                comparison.add(group, direct, naive, through)
    identity_runs(tally, comparison)
    for wire, scenarios in CLIENT_SCENARIOS.items():
        direct = client_suite(f"{harness.NODE} {harness.HERE}/fixtures/client.mjs", wire)
        through = client_suite(f"{harness.HERE}/wrap", wire)
        group = f"client/typescript/{wire}"
        tally.check(
            f"{group}: direct run",
            len(direct.scenarios) == len(scenarios) and direct.counts["FAILURE"] == 0,
            f"{len(direct.scenarios)} scenarios, {direct.score}",
        )
        comparison.add(group, direct, None, through)
    comparison.show()
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

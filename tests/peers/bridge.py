"""The bridge of the eras, measured with the official suite: each wire in front of a server that speaks only the other.

A scenario passes when none of its checks is a FAILURE. Each check that fails is in `bridge_exceptions.txt` with its
reason; one that is there and passes is stale. The direct numbers beside it show that the fixtures are of one era each.

Not here: what the suite checks.
"""

import concurrent.futures

import by_hand
import conformance
import harness

# wire, era of the server, scenarios, of them that pass direct, and that must pass through the bridge
BRIDGES = [
    ("2026-07-28", "legacy", 40, 1, 36),
    ("2025-11-25", "modern", 33, 0, 30),
]


def passed(result):
    """The scenarios without a FAILURE."""
    return result.scenarios - {scenario for (scenario, _), status in result.worst.items() if status == "FAILURE"}


def answers(url, wire):
    """Whether the gateway knows enough of the server to greet a client of WIRE."""
    if wire >= "2026":
        return by_hand.modern(url, "server/discover").status == 200
    return by_hand.initialize(url)[1].status == 200


def runs(wire, era):
    with harness.typescript_server(era) as port:
        upstream = harness.upstream_url(port)
        direct = conformance.server_suite(upstream.replace("127.0.0.1", "localhost"), wire)
        with harness.gateway(upstream) as url:
            by_hand.until(lambda: answers(url, wire))
            through = conformance.server_suite(url, wire)
    return direct, through


def judge(tally, group, through, exceptions):
    """Each failed check is explained, and each explanation is needed."""
    listed = {(scenario, check): why for (name, scenario, check), why in exceptions.items() if name == group}
    failures = {key for key, status in through.worst.items() if status == "FAILURE"}
    for scenario, check in sorted(failures - listed.keys()):
        tally.check(f"{group} {scenario} {check}", False, through.reason.get((scenario, check), ""))
    for scenario, check in sorted(listed.keys() - failures):
        tally.check(f"{group} {scenario} {check}: passes, its exception is stale", False)
    tally.passed += len(failures & listed.keys())
    tally.passed += len(passed(through))


def bridge(tally, wire, era, scenarios, alone, enough):
    group = f"{wire}-on-{era}"
    direct, through = runs(wire, era)
    tally.check(f"{group}: scenarios direct", len(direct.scenarios) == scenarios, f"{len(direct.scenarios)}")
    tally.check(f"{group}: direct, without a bridge", len(passed(direct)) == alone, f"{sorted(passed(direct))}")
    tally.check(f"{group}: scenarios", len(through.scenarios) == scenarios, f"{sorted(through.scenarios)}")
    tally.check(f"{group}: enough pass", len(passed(through)) >= enough, f"{len(passed(through))}, not {enough}")
    judge(tally, group, through, conformance.read_exceptions("bridge_exceptions.txt"))
    print(
        f"  {group}: direct {len(passed(direct))}/{scenarios} ({direct.score}), "
        f"{harness.GATEWAY} {len(passed(through))}/{scenarios} ({through.score}), at least {enough}",
        flush=True,
    )


def main():
    tally = harness.Tally("bridge")
    groups = {f"{wire}-on-{era}" for wire, era, *_ in BRIDGES}
    for entry in conformance.read_exceptions("bridge_exceptions.txt"):
        tally.check(f"exception of a known group: {' '.join(entry)}", entry[0] in groups)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: tally.part(bridge, *one), BRIDGES))
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

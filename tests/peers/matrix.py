"""Who may go on with what: each session and each `requestState` at each address, by each principal.

Only where it was given, and by whom it was given to, it is one; everywhere else it looks like one that never was. Three
kinds of address are in it: one server of the client's own era (its traffic passes), one of the other era, and those
that the gateway serves itself from several servers.

Not here: tokens that were changed (elicitation.py).
"""

import contextlib
import itertools
import pathlib
import tempfile

import by_hand
import clients
import harness

PRINCIPALS = ["alice", "bob"]
ROUTES = ["/mcp", "/mcp/up", "/mcp/other", "/mcp/newer", "/mcp/desk"]
# Where a server of the older revisions asks, under the name that its tool has there.
ASKING = {"/mcp": "up__test_elicitation", **{route: "test_elicitation" for route in ROUTES[1:3] + ROUTES[4:]}}
# Where a state of any of these may be used: also at a server of the newer revision, whose states are its own.
USING = {**ASKING, "/mcp/newer": "test_simple_text"}
NO_SESSION = (404, -33404, "session_not_found")
NO_STATE = (400, -32602, "invalid_request_state")
UNKNOWN = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@contextlib.contextmanager
def gateways():
    """Two of one configuration: yields where they listen, and the key of each principal."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        keys = {name: clients.add_key(directory, name)[1] for name in PRINCIPALS}
        start = lambda era: {"url": harness.upstream_url(stack.enter_context(harness.typescript_server(era)))}
        config = {
            "workers": 2,
            "state": {"sealKeys": ["one key for the gateways of a fleet"]},
            "identity": {"apiKeys": {"file": str(pathlib.Path(directory) / "keys.yaml")}},
            "mcpServers": {"up": start("legacy"), "other": start("legacy"), "newer": start("modern")},
            "virtualServers": {"desk": {"tools": ["up.test_elicitation", "newer.test_simple_text"]}},
        }
        origins = [stack.enter_context(harness.configured(config)) for _ in range(2)]
        for origin in origins:
            by_hand.ready(origin, config["mcpServers"], keys["alice"])
        yield *origins, keys


def cells(given, used):
    """Where something was given, and where it is used, each as a route and a principal."""
    return itertools.product(itertools.product(given, PRINCIPALS), itertools.product(used, PRINCIPALS))


def sessions(tally, origin, second, keys):
    given = {}
    for route, principal in itertools.product(ROUTES, PRINCIPALS):
        session, reply = by_hand.initialize(origin + route, keys[principal])
        tally.check(f"{principal} at {route}: a session", session is not None and reply.status == 200, f"{reply}")
        if session:
            given[route, principal] = session
    tally.check("no two sessions are one", len(set(given.values())) == len(given), f"{given}")
    for home, place in cells(ROUTES, ROUTES):
        if home != place and home in given:
            elsewhere(tally, origin, keys, given[home], home, place)
    for (route, principal), session in given.items():
        reply = by_hand.legacy(second + route, "tools/list", session=session, key=keys[principal])
        goes_on = bool((reply.result or {}).get("tools"))
        tally.check(f"{principal} at {route} of the second gateway: the session is good", goes_on, f"{reply}")
        ends_at_home(tally, origin + route, keys[principal], session, f"{principal} at {route}")


def elsewhere(tally, origin, keys, session, home, place):
    route, principal = place
    url, key = origin + route, keys[principal]
    title = f"{principal} at {route} with the session of {home[1]} at {home[0]}"
    reply = by_hand.legacy(url, "tools/list", session=session, key=key)
    tally.check(title, reply.refusal == NO_SESSION, f"{reply}")
    unknown = by_hand.legacy(url, "tools/list", session=UNKNOWN, key=key)
    tally.check(f"{title}: as if unknown", reply.without_trace() == unknown.without_trace(), f"{reply}\n    {unknown}")
    headers = {"mcp-session-id": session, "mcp-protocol-version": by_hand.REVISION}
    for verb in ("GET", "DELETE"):
        reply = by_hand.send(url, verb, headers=headers, key=key)
        tally.check(f"{title}: {verb}", reply.status == 404, f"{reply}")


def ends_at_home(tally, url, key, session, title):
    reply = by_hand.legacy(url, "tools/list", session=session, key=key)
    tally.check(f"{title}: the session is good", bool((reply.result or {}).get("tools")), f"{reply}")
    headers = {"mcp-session-id": session, "mcp-protocol-version": by_hand.REVISION}
    reply = by_hand.send(url, "DELETE", headers=headers, key=key)
    tally.check(f"{title}: it can be ended", reply.status in (200, 202, 204), f"{reply}")
    reply = by_hand.legacy(url, "tools/list", session=session, key=key)
    tally.check(f"{title}: then it is none", reply.status == 404, f"{reply}")


def asks(origin, keys, place):
    route, principal = place
    params = {"name": ASKING[route], "arguments": {"message": "Who?"}}
    return params, by_hand.modern(origin + route, "tools/call", params, keys[principal])


def states(tally, origin, keys):
    given = {}
    for place in itertools.product(ASKING, PRINCIPALS):
        params, reply = asks(origin, keys, place)
        if tally.check(f"{place[1]} at {place[0]}: a question", reply.asks, f"{reply}"):
            given[place] = by_hand.retry(params, reply)
    # At home last: what was refused elsewhere has not used it up.
    for home, place in sorted(cells(ASKING, USING), key=lambda cell: cell[0] == cell[1]):
        if home in given:
            goes_on(tally, origin, keys, given[home], home, place)


def goes_on(tally, origin, keys, answers, home, place):
    route, principal = place
    params = {**answers, "name": USING[route]}
    reply = by_hand.modern(origin + route, "tools/call", params, keys[principal])
    title = f"{principal} at {route} with the state of {home[1]} at {home[0]}"
    if home == place:
        tally.check(title, "action=accept" in reply.said, f"{reply}")
    else:
        tally.check(title, reply.refusal == NO_STATE, f"{reply}")


def whole(tally):
    with gateways() as (origin, second, keys):
        tally.part(sessions, origin, second, keys)
        tally.part(states, origin, keys)


def main():
    tally = harness.Tally("matrix")
    if harness.GATEWAY == "naive":
        tally.check("the naive proxy knows no principals; nothing was run", True)
    else:
        tally.part(whole)
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

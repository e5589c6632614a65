"""Six servers of both eras behind one address, seen by the official clients of both eras.

server-everything, the TypeScript fixtures (one era each, and both), the Python fixture and a six-line Python server are
one at `/mcp`; a choice of them is the virtual server `/mcp/support`. Each client lists everything twice, calls tools,
reads, completes, is asked, hears of progress and of changes, at every server. What it must see is derived from what the
servers list by themselves.

Not here: requests by hand (elicitation.py, matrix.py), and one server at a time (clients.py, bridge.py).
"""

import concurrent.futures
import contextlib
import json
import time

import by_hand
import clients
import harness

# Not in alphabetical order: lists follow the file.
FIXTURES = ["older", "newer", "dual", "python"]
SERVERS = ["older", "everything", "newer", "six_lines", "dual", "python"]
KINDS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
RENAMED = {"add": {"name": "plus", "description": "Adds, in other words."}}
SUPPORT = {
    "tools": [
        "six_lines.*",
        "older.test_simple_text",
        "newer.test_simple_text",
        "python.test_elicitation",
        "dual.test_input_required_result_multi_round",
        "older.structured_result",
        "everything.echo",
    ],
    "prompts": ["newer.test_simple_prompt", "older.test_prompt_with_arguments"],
    "resources": ["older.test://static-text", "newer.test://template/*"],
    "overrides": {"older.test_simple_text": {"name": "simple", "description": "The older one."}},
}
SUPPORT_NAMES = {
    "tools": [
        "plus",
        "simple",
        "test_simple_text",
        "test_elicitation",
        "test_input_required_result_multi_round",
        "structured_result",
        "echo",
    ],
    "prompts": ["test_simple_prompt", "test_prompt_with_arguments"],
    "resources": ["test://static-text"],
    "resourceTemplates": ["test://template/{id}/data"],
}


def wrapped(server, uri):
    """URI as `/mcp` shows it: a scheme has no underscore, and `ui` stays what applications look for."""
    label = server.replace("_", ".")
    return f"ui://{label}/{uri.removeprefix('ui://')}" if uri.startswith("ui://") else f"{label}+{uri}"


def step(play, *shows, **more):
    return {"play": play, "shows": shows, **more}


def call(name, *shows, fails=False, **arguments):
    return step("call", *shows, name=name, arguments=arguments, fails=fails)


def at_fixture(server):
    """What each fixture can do, under its names at `/mcp`."""
    own = lambda name: f"{server}__{name}"
    uri = lambda rest: wrapped(server, f"test://{rest}")
    return [
        call(own("test_simple_text"), "This is a simple text response for testing."),
        call(own("structured_result"), '"structuredContent": {"nested": {"list": [1, "two", null, true]}, "sum": 3}'),
        call(own("test_error_handling"), "intentionally", fails=True),
        call(own("test_custom_header"), "region=Grüße size=42", region="Grüße", size=42),
        call(own("test_embedded_resource"), f'"uri": "{uri("embedded-resource")}"'),
        {**call(own("test_tool_with_progress"), '"progress": 0', '"progress": 100'), "progress": True},
        call(own("test_elicitation"), "action=accept", message="Who?"),
        call(own("test_elicitation_sep1330_enums"), "option1", "value1", "opt1"),
        call(own("test_sampling"), "LLM response: Sampled: Hello?", prompt="Hello?"),
        call(own("test_input_required_result_list_roots"), "file:///peer"),
        call(own("test_input_required_result_multiple_inputs"), "Sampled: Generate a greeting peer, 1 roots"),
        call(own("test_input_required_result_multi_round"), "peer likes peer"),
        call(own("no_such_tool"), "-32602", fails=True),
        step("read", f'"uri": "{uri("static-text")}"', "This is the content of the", uri=uri("static-text")),
        step("read", "templateTest", uri=uri("template/a%20b/data")),
        step("read", uri=uri("nothing"), fails=True),
        step("prompt", "arg1='one'", name=own("test_prompt_with_arguments"), arguments={"arg1": "one", "arg2": "2"}),
        step("prompt", "Use this context: peer", name=own("test_input_required_result_prompt")),
        completes({"type": "ref/prompt", "name": own("test_prompt_with_arguments")}, "arg1"),
        completes({"type": "ref/resource", "uri": uri("template/{id}/data")}, "id"),
        notified("tools/list_changed", own("test_trigger_tool_change"), "ools"),
        notified("resources/updated", own("trigger_resource_update"), uri("watched-resource"), uri("watched-resource")),
    ]


def completes(ref, argument):
    return step("complete", '"party"', ref=ref, argument={"name": argument, "value": "par"})


def notified(notification, trigger, shows, uri=None):
    return step("notified", shows, notification=notification, trigger=trigger, **({"uri": uri} if uri else {}))


EVERYTHING = [
    call("everything__echo", "Grüße \u2028 世界", message="Grüße \u2028 世界"),
    call("everything__get-structured-content", '"structuredContent": {', "temperature", location="New York"),
    call("everything__get-resource-links", '"uri": "everything+demo://resource/', count=3),
    {
        **call("everything__trigger-long-running-operation", '"progress": 3', duration=0.3, steps=3),
        "progress": True,
    },
    call("everything__trigger-elicitation-request", "peer"),
    call("everything__trigger-sampling-request", "Sampled:", prompt="Hello?", maxTokens=10),
    step("read", "Resource 1", uri="everything+demo://resource/dynamic/text/1"),
    step("prompt", "Köln", name="everything__args-prompt", arguments={"city": "Köln", "state": "NRW"}),
    step(
        "complete",
        "Engineering",
        ref={"type": "ref/prompt", "name": "everything__completable-prompt"},
        argument={"name": "department", "value": "E"},
    ),
]
# What the server asks for by itself, on the GET stream of the client's session: those of 2026-07-28 have none.
ASKED = [call("everything__get-roots-list", "file:///peer")]
OTHERS = [
    call("six_lines__plus", '"structuredContent": {"result": 5}', a=2, b=3),
    step("read", "The first note.", '"uri": "six.lines+note://first"', uri="six.lines+note://first"),
    # None of these is a name here, whatever it is at its server.
    *(call(name, "-32602", fails=True) for name in ("six_lines__add", "test_simple_text", "nowhere__add", "older__")),
    step("read", uri="test://static-text", fails=True),
    step("read", uri="nowhere+test://static-text", fails=True),
    step("prompt", "-32602", name="older__no_such_prompt", arguments={}, fails=True),
]
LISTS = [step("list", kind=kind) for kind in KINDS]
FEDERATED = [
    step("info", '"listChanged": true', '"subscribe": true', '"completions"', "A fixture for tests."),
    *LISTS,
    *(one for server in FIXTURES for one in at_fixture(server)),
    *EVERYTHING,
    *OTHERS,
    *LISTS,
]
VIRTUAL = [
    *LISTS,
    call("plus", '"structuredContent": {"result": 5}', a=2, b=3),
    call("simple", "This is a simple text response for testing."),
    call("test_simple_text", "This is a simple text response for testing."),
    call("structured_result", '"sum": 3'),
    call("echo", "Echo: Hi", message="Hi"),
    call("test_elicitation", "action=accept", message="Who?"),
    call("test_input_required_result_multi_round", "peer likes peer"),
    step("read", '"uri": "test://static-text"', uri="test://static-text"),
    step("read", "templateTest", uri="test://template/7/data"),
    step("read", uri="test://static-binary", fails=True),
    step("prompt", "arg1='one'", name="test_prompt_with_arguments", arguments={"arg1": "one", "arg2": "2"}),
    # What its servers have and it does not show.
    *(call(name, "-32602", fails=True) for name in ("test_error_handling", "add", "get-sum", "older__structured_result")),
    step("prompt", "-32602", name="test_prompt_with_image", arguments={}, fails=True),
    *LISTS,
]


@contextlib.contextmanager
def upstreams():
    """The six, by name, and what ends the six-line one."""
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as mortal:
        enter = lambda server: {"url": harness.upstream_url(stack.enter_context(server))}
        servers = {
            "older": enter(harness.typescript_server("legacy")),
            "everything": enter(clients.everything()),
            "newer": enter(harness.typescript_server("modern")),
            "six_lines": {"url": harness.upstream_url(mortal.enter_context(harness.six_lines())), "overrides": RENAMED},
            "dual": enter(harness.typescript_server("dual")),
            "python": enter(harness.python_server()),
        }
        yield servers, mortal.close


def titled(steps):
    """STEPS with a title each; a list comes twice and needs two."""
    chosen = []
    for index, one in enumerate(steps, 1):
        subject = next((one[key] for key in ("kind", "name", "uri", "trigger") if key in one), "")
        subject = subject or json.dumps(one.get("ref", ""))
        chosen.append({**one, "title": f"{index} {one['play']} {subject}".strip()})
    return chosen


def played(client, url, steps):
    """The outcome of each step by its title, or a sentence that says why there is none."""
    done = harness.run(*clients.CLIENTS[client], url, json.dumps(steps), timeout=90)
    try:
        return {outcome["step"]: outcome for outcome in json.loads(done.stdout)}
    except ValueError:
        return f"status {done.returncode}; stdout {done.stdout[-300:]!r}; stderr {done.stderr[-1500:]!r}"


def judge(tally, title, steps, outcomes):
    """Each step for itself; returns what was listed, kind by kind, each time."""
    if isinstance(outcomes, str):
        tally.check(title, False, outcomes)
        return {}
    connected = outcomes.get("connect", {})
    tally.check(f"{title} connect", connected.get("ok") is True, clients.as_text(connected)[:500])
    listed = {kind: [] for kind in KINDS}
    for one in steps:
        outcome = outcomes.get(one["title"], {"error": "was not played"})
        text = clients.as_text(outcome)
        missing = [shown for shown in one["shows"] if shown not in text]
        right = not missing and clients.failed(outcome) == one.get("fails", False)
        tally.check(f"{title} {one['title']}", right, f"missing {missing} in {text[:600]}")
        if one["play"] == "list" and "ok" in outcome:
            listed[one["kind"]].append(outcome["ok"])
    return listed


def listed_alone(servers):
    """What each server lists by itself, kind by kind, to a client that can be asked."""

    def one(server):
        steps = titled(LISTS)
        outcomes = played("python/auto", server["url"].replace("127.0.0.1", "localhost"), steps)
        if isinstance(outcomes, str):
            raise harness.StartError(outcomes)
        return {step["kind"]: outcomes[step["title"]].get("ok") or [] for step in steps}

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return dict(zip(servers, pool.map(one, servers.values())))


def federated(alone):
    """The entries that `/mcp` must list, in order."""
    expected = {kind: [] for kind in KINDS}
    for server, kinds in alone.items():
        for kind, key in KINDS.items():
            for entry in kinds[kind]:
                entry = dict(entry)
                if server == "six_lines" and kind == "tools":
                    entry.update(RENAMED.get(entry["name"], {}))
                entry[key] = f"{server}__{entry[key]}" if key == "name" else wrapped(server, entry[key])
                expected[kind].append(entry)
    return expected


def compare_lists(tally, title, listed, expected):
    """Names and order exactly, and of each entry what every client keeps."""
    for kind, key in KINDS.items():
        names = [[entry[key] for entry in once] for once in listed.get(kind, [])]
        wanted = [entry[key] for entry in expected[kind]]
        if not tally.check(f"{title}: {kind}, twice", names == [wanted, wanted], difference(names, wanted)):
            continue
        for entry, want in zip(listed[kind][0], expected[kind]):
            kept = [field for field in ("description", "inputSchema", "mimeType") if want.get(field) != entry.get(field)]
            tally.check(f"{title}: {want[key]}", not kept, f"{[(want.get(it), entry.get(it)) for it in kept]}"[:600])


def difference(names, wanted):
    if len(names) != 2 or names[0] != names[1]:
        return f"listed {len(names)} times, {[len(once) for once in names]} entries, equal: {names[:1] == names[1:]}"
    lost, more = [it for it in wanted if it not in names[0]], [it for it in names[0] if it not in wanted]
    return f"missing {lost}, too many {more}" if lost or more else f"other order: {names[0]}"


def every_client(tally, origin, alone):
    expected = federated(alone)
    for client in clients.CLIENTS:
        steps = titled(FEDERATED + (ASKED if client in clients.LEGACY else []))
        started = time.monotonic()
        listed = judge(tally, f"{client} /mcp", steps, played(client, f"{origin}/mcp", steps))
        compare_lists(tally, f"{client} /mcp", listed, expected)
        steps = titled(VIRTUAL)
        listed = judge(tally, f"{client} /mcp/support", steps, played(client, f"{origin}/mcp/support", steps))
        for kind, key in KINDS.items():
            names = [[entry[key] for entry in once] for once in listed.get(kind, [])]
            wanted = SUPPORT_NAMES[kind]
            tally.check(f"{client} /mcp/support: {kind}", names == [wanted, wanted], f"{names}, not {wanted}")
        print(f"  {client}: {time.monotonic() - started:.1f} s", flush=True)


def overridden(tally, origin):
    """A tool in other words, at the server's own address and for a client of either era."""
    tools = by_hand.modern(f"{origin}/mcp/six_lines", "tools/list").result or {"tools": []}
    shown = [(tool["name"], tool.get("description")) for tool in tools["tools"]]
    tally.check("six_lines: its tool in other words", shown == [("plus", RENAMED["add"]["description"])], f"{shown}")
    session, _ = by_hand.initialize(f"{origin}/mcp/six_lines")
    params = {"name": "plus", "arguments": {"a": 2, "b": 3}}
    for era, reply in (
        ("newer", by_hand.modern(f"{origin}/mcp/six_lines", "tools/call", params)),
        ("older", by_hand.legacy(f"{origin}/mcp/six_lines", "tools/call", params, session)),
    ):
        tally.check(f"six_lines: called by the {era} era", "5" in reply.said, f"{reply}")
        hidden = {**params, "name": "add"}
        nonsense = {**params, "name": "zzz"}
        ask = by_hand.modern if era == "newer" else lambda *rest: by_hand.legacy(*rest, session)
        refused = [ask(f"{origin}/mcp/six_lines", "tools/call", it) for it in (hidden, nonsense)]
        tally.check(f"six_lines: its own name in the {era} era", refused[0].refusal[1] == -32602, f"{refused[0]}")
        same = len({str(it.without_trace()).replace("add", "zzz") for it in refused}) == 1
        tally.check(f"six_lines: as if it were not there, in the {era} era", same, f"{refused}")


def comes_and_goes(tally, origin):
    """A tool that its server adds is listed soon, and one that it takes away is not."""
    for server in ("older", "newer", "dual"):
        name = f"{server}__coming_and_going"
        for there in (True, False):
            by_hand.modern(f"{origin}/mcp", "tools/call", {"name": f"{server}__toggle_tool", "arguments": {}})
            found = by_hand.until(lambda: (name in by_hand.names_listed(f"{origin}/mcp")) == there, 5)
            tally.check(f"{name} {'comes' if there else 'goes'}", found)


def one_is_gone(tally, origin, end):
    """A server that ends takes nobody with it."""
    end()
    params = {"name": "six_lines__plus", "arguments": {"a": 2, "b": 3}}
    started = time.monotonic()
    reply = by_hand.modern(f"{origin}/mcp", "tools/call", params)
    told = reply.refusal == (503, -33503, "upstream_unavailable")
    tally.check("a call to a server that is gone", told, f"{reply}")
    names = by_hand.names_listed(f"{origin}/mcp")
    took = time.monotonic() - started
    others = {name.split("__")[0] for name in names} - {"six_lines"}
    tally.check("the others are still listed", others == set(SERVERS) - {"six_lines"}, f"{others}")
    tally.check("and nobody waits", took < 3, f"{took:.1f} s")
    for server in FIXTURES:
        params = {"name": f"{server}__test_simple_text", "arguments": {}}
        reply = by_hand.modern(f"{origin}/mcp", "tools/call", params)
        tally.check(f"{server} still answers", "simple text response" in reply.said, f"{reply}")


def whole(tally):
    with upstreams() as (servers, end):
        alone = listed_alone(servers)
        for server, kinds in alone.items():
            tally.check(f"{server} lists its tools by itself", bool(kinds["tools"]), f"{kinds}"[:300])
        if harness.GATEWAY == "naive":
            print("federation: the naive proxy has one server; only the servers were listed")
            return
        config = {"workers": 2, "mcpServers": servers, "virtualServers": {"support": SUPPORT}}
        with harness.configured(config) as origin:
            ready = by_hand.ready(origin, servers)
            tally.check("all are listed", ready, f"{by_hand.names_listed(f'{origin}/mcp')}")
            tally.part(every_client, origin, alone)
            tally.part(overridden, origin)
            tally.part(comes_and_goes, origin)
            tally.part(one_is_gone, origin, end)


def main():
    tally = harness.Tally("federation")
    tally.part(whole)
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

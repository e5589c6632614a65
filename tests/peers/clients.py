"""The official SDK clients, direct and through the gateway: what a client tells its user must be the same.

But where a client that knows both eras meets a server of the older one: through the gateway it speaks the newer. There
each step must show what it shall.

Each client plays the same steps against each server; the outcomes are compared step by step after what differs between
any two runs (ports, session ids, times) is made equal. A step that must succeed, or must show something, is checked in
the direct run too: two equal failures prove nothing.

Not here: the clients' own code (drivers/).
"""

import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import re
import subprocess
import tempfile

import harness

LARGE = 3_000_000
SIZES = [1 + index * 1237 for index in range(20)]

# Steps: `play` is what the driver does; `shows` must be in the outcome as JSON text; `fails` marks a step that must end
# in an error or an `isError` result. `needs` a session: for servers that keep one, and for every modern pair.
FIXTURE = [
    {"play": "info", "shows": '"instructions": "A fixture for tests."'},
    {"play": "tools", "shows": "json_schema_2020_12_tool"},
    {"play": "call", "name": "test_simple_text", "shows": "This is a simple text response for testing."},
    {"play": "call", "name": "structured_result", "shows": '"list": [1, "two", null, true]'},
    {"play": "call", "name": "test_multiple_content_types", "shows": "test://mixed-content-resource"},
    {"play": "call", "name": "test_error_handling", "shows": "intentionally", "fails": True},
    {"play": "call", "name": "no_such_tool", "shows": "no_such_tool", "fails": True},
    {
        "play": "call",
        "name": "test_custom_header",
        "arguments": {"region": "Grüße, 世界 ", "size": 42},
        "shows": "region=Grüße, 世界  size=42",
    },
    {"play": "call", "name": "test_tool_with_progress", "progress": True, "shows": '"progress": 100'},
    {"play": "call", "name": "test_tool_with_logging", "log": True, "shows": "Tool processing data"},
    {"play": "call", "name": "large_result", "arguments": {"bytes": LARGE}, "shows": f"<{LARGE} characters"},
    {"play": "parallel", "name": "large_result", "sizes": SIZES, "shows": "<24"},
    {
        "play": "call",
        "name": "test_elicitation",
        "arguments": {"message": "Who?"},
        "needs": "session",
        "shows": "action=accept",
    },
    {"play": "call", "name": "test_elicitation_sep1330_enums", "needs": "session", "shows": "option1"},
    {
        "play": "call",
        "name": "test_sampling",
        "arguments": {"prompt": "Hello?"},
        "needs": "session",
        "shows": "LLM response: Sampled: Hello?",
    },
    {"play": "call", "name": "test_input_required_result_list_roots", "needs": "session", "shows": "file:///peer"},
    {"play": "call", "name": "test_input_required_result_request_state", "needs": "session", "shows": "state-ok"},
    {
        "play": "call",
        "name": "test_input_required_result_multiple_inputs",
        "needs": "session",
        "shows": "Sampled: Generate a greeting peer, 1 roots",
    },
    {
        "play": "call",
        "name": "test_input_required_result_multi_round",
        "needs": "session",
        "shows": "peer likes peer",
    },
    {"play": "call", "name": "test_reconnection", "shows": "Reconnection test completed"},
    {"play": "resources", "shows": "test://watched-resource"},
    {"play": "templates", "shows": "test://third/{id}"},
    {"play": "bad_cursor", "fails": True, "shows": "Invalid cursor"},
    {"play": "read", "uri": "test://static-text", "shows": "This is the content of the static text resource."},
    {"play": "read", "uri": "test://static-binary", "shows": "iVBORw0KGgo"},
    {"play": "read", "uri": "test://template/a%20b/data", "shows": "templateTest"},
    {"play": "read", "uri": "test://nothing", "fails": True, "shows": "not found"},
    {"play": "prompts", "shows": "test_prompt_with_embedded_resource"},
    {
        "play": "prompt",
        "name": "test_prompt_with_arguments",
        "arguments": {"arg1": "one", "arg2": "ü \u2028"},
        "shows": "arg1='one', arg2='ü \u2028'",
    },
    {"play": "prompt", "name": "test_input_required_result_prompt", "needs": "session", "shows": "Use this context: peer"},
    {
        "play": "complete",
        "ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
        "argument": {"name": "arg1", "value": "par"},
        "shows": '"party"',
    },
    {
        "play": "notified",
        "notification": "tools/list_changed",
        "trigger": "test_trigger_tool_change",
        "needs": "session",
        "shows": "ools",  # as a method of one client, as a class of the other
    },
    {
        "play": "notified",
        "notification": "resources/updated",
        "trigger": "trigger_resource_update",
        "uri": "test://watched-resource",
        "needs": "session",
        "shows": "test://watched-resource",
    },
    {"play": "terminate"},
]

EVERYTHING = [
    {"play": "info", "shows": "Everything Reference Server"},
    {"play": "ping"},
    {"play": "tools", "shows": "trigger-elicitation-request"},
    {"play": "call", "name": "echo", "arguments": {"message": "Grüße \u2028 \\ 世界"}, "shows": "Grüße"},
    {"play": "call", "name": "get-sum", "arguments": {"a": 9007199254740991, "b": 0.5}, "shows": "sum"},
    {"play": "call", "name": "get-sum", "arguments": {"a": "one", "b": 2}, "fails": True},
    {"play": "call", "name": "no-such-tool", "fails": True, "shows": "no-such-tool"},
    {"play": "call", "name": "get-tiny-image", "shows": "image/png"},
    {"play": "call", "name": "get-structured-content", "arguments": {"location": "New York"}, "shows": "temperature"},
    {
        "play": "call",
        "name": "get-annotated-message",
        "arguments": {"messageType": "error", "includeImage": True},
        "shows": "audience",
    },
    {"play": "call", "name": "get-resource-links", "arguments": {"count": 3}, "shows": "resource_link"},
    {
        "play": "call",
        "name": "trigger-long-running-operation",
        "arguments": {"duration": 0.3, "steps": 3},
        "progress": True,
        "shows": '"progress": 3',
    },
    {"play": "call", "name": "trigger-elicitation-request", "shows": "peer"},
    {"play": "call", "name": "get-roots-list", "shows": "file:///peer"},
    {
        "play": "call",
        "name": "trigger-sampling-request",
        "arguments": {"prompt": "Hello?", "maxTokens": 10},
        "shows": "Sampled:",
    },
    {"play": "resources", "shows": "demo://resource/static/document"},
    {"play": "templates", "shows": "demo://resource/dynamic/text"},
    {"play": "read", "uri": "demo://resource/dynamic/text/1", "shows": "Resource 1"},
    {"play": "read", "uri": "demo://nothing", "fails": True},
    {"play": "prompts", "shows": "args-prompt"},
    {"play": "prompt", "name": "args-prompt", "arguments": {"city": "Köln", "state": "NRW"}, "shows": "Köln"},
    {
        "play": "complete",
        "ref": {"type": "ref/prompt", "name": "completable-prompt"},
        "argument": {"name": "department", "value": "E"},
        "shows": "Engineering",
    },
    # It says 400 where the specification says 404.
    {"play": "terminate", "shows": '"afterwards": 400, "deleted": [200]'},
]

CLIENTS = {
    "typescript/auto": [harness.NODE, "drivers/typescript.mjs", "auto"],
    "typescript/legacy": [harness.NODE, "drivers/typescript.mjs", "legacy"],
    "typescript-sdk1": [harness.NODE, "drivers/typescript.mjs", "sdk1"],
    "python/auto": [harness.PYTHON, "drivers/python.py", "auto"],
    "python/legacy": [harness.PYTHON, "drivers/python.py", "legacy"],
}
AUTO = ["typescript/auto", "python/auto"]
LEGACY = [name for name in CLIENTS if name not in AUTO]


def everything():
    return harness.process(
        harness.NODE,
        "--import",
        "./fixtures/loopback.mjs",
        harness.HERE / "node_modules/@modelcontextprotocol/server-everything/dist/index.js",
        "streamableHttp",
        env={"PORT": "0"},
    )


# name: (start, clients, steps, era that an auto client finds, keeps sessions)
SERVERS = {
    "typescript-modern": (lambda: harness.typescript_server("modern"), AUTO, FIXTURE, "modern", False),
    "typescript-legacy": (lambda: harness.typescript_server("legacy"), list(CLIENTS), FIXTURE, "legacy", True),
    "typescript-no-events": (
        lambda: harness.typescript_server("legacy", "--no-events"),
        ["typescript/legacy", "python/legacy"],
        FIXTURE,
        "legacy",
        True,
    ),
    "typescript-dual": (lambda: harness.typescript_server("dual"), list(CLIENTS), FIXTURE, "modern", False),
    "python": (harness.python_server, list(CLIENTS), FIXTURE, "modern", True),
    "everything": (everything, list(CLIENTS), EVERYTHING, "legacy", True),
}


# What the gateway says by itself, where it translates. None: what cannot be translated, a question of the server's that
# does not come on the stream of the call.
TRANSLATED = {
    "call get-roots-list": None,
    "call no_such_tool": "Nothing of this name is here",
    "call no-such-tool": "Nothing of this name is here",
    "bad_cursor": "The list cannot go on there",
    "terminate": '"had": false',
}


def titled(steps, modern, sessions, translated=False):
    """The steps that this pair can play, each with a title of its own for the report."""
    chosen = []
    for step in steps:
        if step.get("needs") == "session" and not (modern or sessions):
            continue
        if step["play"] == "ping" and modern:
            continue
        if step["play"] == "terminate" and "shows" not in step:
            ended = '"afterwards": 404, "deleted": [200]' if sessions and not modern else '"had": false'
            step = {**step, "shows": ended}
        subject = step.get("name") or step.get("uri") or step.get("trigger") or ""
        title = f"{step['play']} {subject}".strip()
        if translated and title in TRANSLATED:
            if TRANSLATED[title] is None:
                continue
            step = {**step, "shows": TRANSLATED[title]}
        chosen.append({**step, "title": title})
    return chosen


def play(client, url, steps, env=None):
    """The outcomes by place and step, or a sentence that says why there are none."""
    done = harness.run(*CLIENTS[client], url, json.dumps(steps), timeout=60, env=env)
    try:
        outcomes = json.loads(done.stdout)
    except ValueError:
        return f"status {done.returncode}; stdout {done.stdout[-300:]!r}; stderr {done.stderr[-1500:]!r}"
    return {f"{index} {outcome['step']}": normal(outcome, url) for index, outcome in enumerate(outcomes)}


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z|\d{1,2}:\d\d:\d\d( [AP]M)?")


def normal(value, url):
    """VALUE without what differs between any two runs, and with long strings as their digest."""
    if isinstance(value, dict):
        return {key: normal(item, url) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item, url) for item in value]
    if not isinstance(value, str):
        return value
    if len(value) > 2000:
        return f"<{len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()}>"
    value = value.replace(url, "URL").replace(url.rsplit("/mcp", 1)[0], "ORIGIN")
    return TIME.sub("TIME", UUID.sub("UUID", value))


def as_text(outcome):
    return json.dumps(outcome, ensure_ascii=False, sort_keys=True)


def failed(outcome):
    if "error" in outcome:
        return True
    result = outcome.get("ok")
    return isinstance(result, dict) and (result.get("result") or {}).get("isError") is True


def right(step, outcome):
    return step.get("shows", "") in as_text(outcome) and failed(outcome) == step.get("fails", False)


def compare(tally, pair, steps, direct, through):
    for side, outcomes in (("direct", direct), ("through", through)):
        if isinstance(outcomes, str):
            tally.check(f"{pair} {side}", False, outcomes)
            return
    tally.check(f"{pair} connect", direct.get("0 connect", {}).get("ok") is True, as_text(direct)[:500])
    for index, step in enumerate(steps, 1):
        key = f"{index} {step['title']}"
        before, after = direct.get(key), through.get(key)
        if before is None:
            tally.check(f"{pair} {key}", False, "the direct run did not play it")
            continue
        text = as_text(before)
        tally.check(f"{pair} {key} direct", right(step, before), f"wanted {step.get('shows')!r} in {text[:600]}")
        same = after is not None and as_text(after) == text
        tally.check(f"{pair} {key}", same, f"direct  {text[:600]}\n    through {as_text(after)[:600]}")


def judge(tally, pair, steps, through):
    """The outcomes of a pair that the gateway translates between."""
    if isinstance(through, str):
        tally.check(f"{pair} translated", False, through)
        return
    tally.check(f"{pair} translated", "2026-07-28" in as_text(through.get("1 info", {})), as_text(through)[:500])
    for index, step in enumerate(steps, 1):
        key = f"{index} {step['title']}"
        outcome = through.get(key, {"error": "not played"})
        detail = f"wanted {step.get('shows')!r} in {as_text(outcome)[:600]}"
        tally.check(f"{pair} {key} translated", right(step, outcome), detail)


def server_group(tally, name):
    start, clients, steps, auto_era, sessions = SERVERS[name]
    with start() as port, harness.gateway(harness.upstream_url(port)) as url:
        for client in clients:
            modern = client in AUTO and auto_era == "modern"
            chosen = titled(steps, modern, sessions)
            direct = play(client, harness.upstream_url(port).replace("127.0.0.1", "localhost"), chosen)
            pair = f"{client} -> {name}"
            if client in AUTO and not modern and harness.GATEWAY != "naive":
                # Direct it speaks the older era, and both sides are the same in that.
                compare(tally, pair, chosen, direct, direct)
                translated = titled(steps, True, sessions, translated=True)
                judge(tally, pair, translated, play(client, url, translated))
            else:
                compare(tally, pair, chosen, direct, play(client, url, chosen))
            found = as_text(direct.get("1 info", {})) if isinstance(direct, dict) else ""
            tally.check(f"{client} -> {name}: era", ("2026-07-28" in found) == modern, found[:200])


def add_key(directory, principal="agent-7", roles="support"):
    keys = pathlib.Path(directory) / "keys.yaml"
    command = ["key", "add", "--file", keys, "--principal", principal, "--roles", roles]
    done = harness.run(harness.RINGGATE, *command, timeout=20)
    if done.returncode != 0:
        raise harness.StartError(f"key add failed: {done.stderr}")
    return keys, done.stdout.strip().splitlines()[-1]


def identity_group(tally):
    """With a key each client works, and the upstream does not see the key; without, or with another, it gets 401."""
    if harness.GATEWAY == "naive":
        print("clients/identity: the naive proxy has no keys; not run")
        return
    steps = titled([{"play": "tools"}, {"play": "call", "name": "seen_headers"}], False, False)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        keys, key = add_key(directory)
        port = stack.enter_context(harness.typescript_server("dual"))
        url = stack.enter_context(
            harness.gateway(harness.upstream_url(port), f'{{apiKeys: {{file: "{keys}"}}}}')
        )
        for client in CLIENTS:
            outcomes = play(client, url, steps, {"PEERS_KEY": key})
            text = as_text(outcomes)
            seen = outcomes.get("2 call seen_headers", {}) if isinstance(outcomes, dict) else {}
            tally.check(f"{client} with a key", "ok" in seen and not failed(seen), text[-600:])
            tally.check(f"{client}: the key stays here", "host" in as_text(seen) and "authorization" not in as_text(seen), text[-600:])
            for what, wrong in (("a wrong key", key[:-1] + ("A" if key[-1] != "A" else "B")), ("no key", None)):
                outcomes = play(client, url, steps, {"PEERS_KEY": wrong} if wrong else None)
                text = as_text(outcomes)
                refused = isinstance(outcomes, dict) and "error" in outcomes.get("0 connect", {})
                tally.check(f"{client} with {what}: error", refused, text[:600])
                tally.check(f"{client} with {what}: no more steps", len(outcomes) == 1, text[:600])
                told = "401" in text or "Unauthorized" in text or "unauthenticated" in text
                tally.check(f"{client} with {what}: told why", told, text[:600])


def main():
    tally = harness.Tally("clients")

    def guarded(name, group, *arguments):
        try:
            group(tally, *arguments)
        except (harness.StartError, OSError, subprocess.SubprocessError) as error:
            tally.check(f"{name}: {error}", False)

    # Clients of one server play one after the other: its notifications go to every session.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(guarded, name, server_group, name) for name in SERVERS]
        futures.append(pool.submit(guarded, "identity", identity_group))
    for future in futures:
        future.result()
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

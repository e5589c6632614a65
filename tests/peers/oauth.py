"""The gateway as an OAuth resource server: the official SDK clients, and a real OpenID provider.

Each client plays one story: it is sent to the provider, lists and calls, asks for the scopes that a tool needs, and
refreshes a token that has expired. What the gateway sends upstream is recorded, and no token that the provider issued
may be in it.

PEERS_GATEWAY=naive puts fixtures/guard.mjs in the gateway's place, to try the story itself.

Not here: what is asked by hand (tokens.py), which runs beside the stories.
"""

import concurrent.futures
import contextlib
import json

import clients
import harness
import tokens
from identity import GATEWAY, GUARDED, PLAIN, SCOPES, SKEW, Provider, claims, guarded

STORY = [
    {"play": "info", "shows": "A fixture for tests."},
    {"play": "tools", "shows": GUARDED},
    {"play": "call", "name": PLAIN, "shows": "This is a simple text response for testing."},
    # The next tokens live for three seconds, at the gateway as at the client.
    {"play": "provider", "set": {"ttl": 3, "behind": SKEW}, "shows": "200"},
    {"play": "call", "name": GUARDED, "shows": '"list": [1, "two", null, true]'},
    {"play": "expired", "shows": "tries"},
    {"play": "provider", "set": {"ttl": 300, "behind": 0}, "shows": "200"},
    {"play": "call", "name": PLAIN, "shows": "This is a simple text response for testing."},
    {"play": "call", "name": GUARDED, "shows": '"list": [1, "two", null, true]'},
    {"play": "asked", "shows": "code_challenge"},
]


def story(tally, client):
    """CLIENT plays the story against a server of its era."""
    modern = client in clients.AUTO
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.typescript_server("modern" if modern else "legacy"))
        recorder = stack.enter_context(harness.Recorder(server))
        provider = Provider(stack.enter_context(harness.provider()))
        url = stack.enter_context(guarded(harness.upstream_url(recorder.port), provider))
        oauth = {"issuer": provider.issuer, "user": "alice", "withhold": SCOPES}
        steps = clients.titled(STORY, modern, not modern)
        outcomes = clients.play(client, url, steps, env={"PEERS_OAUTH": json.dumps(oauth)})
        told(tally, client, steps, outcomes, modern)
        asked = outcomes.get(f"{len(STORY)} asked", {}).get("ok") if isinstance(outcomes, dict) else None
        authorized(tally, client, asked or [])
        granted(tally, client, provider.steer("seen"), url)
        kept_back(tally, client, provider.steer("seen")["issued"], recorder.bytes)


def told(tally, client, steps, outcomes, modern):
    if isinstance(outcomes, str):
        tally.check(f"{client}: the story", False, outcomes)
        return
    connected = clients.as_text(outcomes.get("0 connect"))
    tally.check(f"{client}: connect", outcomes.get("0 connect", {}).get("ok") is True, connected[:600])
    for index, step in enumerate(steps, 1):
        outcome = outcomes.get(f"{index} {step['title']}", {"error": "not played"})
        text = clients.as_text(outcome)
        right = step["shows"] in text and not clients.failed(outcome)
        tally.check(f"{client}: {index} {step['title']}", right, f"wanted {step['shows']!r} in {text[:600]}")
    found = clients.as_text(outcomes.get("1 info"))
    tally.check(f"{client}: era", ("2026-07-28" in found) == modern, found[:200])


def authorized(tally, client, asked):
    """The client was sent to the provider twice, and asked for this resource each time."""
    tally.check(f"{client}: authorizations", len(asked) == 2, f"{len(asked)}: {asked}")
    for number, query in enumerate(asked, 1):
        tally.check(f"{client}: PKCE of authorization {number}", query.get("code_challenge_method") == "S256", query)
        # The driver's text has the endpoint as `URL`.
        tally.check(f"{client}: resource of authorization {number}", query.get("resource") == "URL", query)
    wanted = asked[-1].get("scope", "").split() if asked else []
    tally.check(f"{client}: the step up asks for all scopes", set(SCOPES) <= set(wanted), wanted)


def granted(tally, client, seen, url):
    codes, refreshes = seen["grants"][:2], seen["grants"][2:]
    right = codes == ["authorization_code"] * 2 and refreshes and set(refreshes) == {"refresh_token"}
    tally.check(f"{client}: two codes, then refreshed", right, seen["grants"])
    tally.check(f"{client}: registers once", seen["requests"].count("POST /reg") == 1, seen["requests"])
    audiences = {claims(token)["aud"] for token in seen["issued"]}
    tally.check(f"{client}: audience", audiences == {url}, audiences)


def kept_back(tally, client, issued, sent):
    tally.check(f"{client}: the upstream is called", sent.count(b"POST /mcp") >= 4, sent[:300])
    tally.check(f"{client}: tokens to look for", len(issued) >= 3, issued)
    found = [token for token in issued if token.encode() in sent or token.split(".")[-1].encode() in sent]
    tally.check(f"{client}: no token goes upstream", not found and b"Bearer" not in sent, found)


def introspection(tally, client):
    """A resource whose tokens only the provider can read."""
    modern = client in clients.AUTO
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.typescript_server("dual"))
        recorder = stack.enter_context(harness.Recorder(server))
        provider = Provider(stack.enter_context(harness.provider()))
        provider.steer("set", format="opaque")
        where = {"url": f"{provider.issuer}/token/introspection", "clientId": GATEWAY[0], "secret": GATEWAY[1]}
        url = stack.enter_context(guarded(harness.upstream_url(recorder.port), provider, introspection=where))
        oauth = {"issuer": provider.issuer, "user": "alice", "withhold": SCOPES}
        steps = clients.titled([STORY[index] for index in (0, 1, 2, 4)], modern, False)
        outcomes = clients.play(client, url, steps, env={"PEERS_OAUTH": json.dumps(oauth)})
        told(tally, f"{client} with opaque tokens", steps, outcomes, modern)
        seen = provider.steer("seen")
        opaque = [token for token in seen["issued"] if "." not in token]
        tally.check(f"{client}: opaque tokens", len(opaque) == 2 == len(seen["issued"]), seen["issued"])
        asked = seen["requests"].count("POST /token/introspection")
        tally.check(f"{client}: each is asked for once", asked == 2, f"{asked} requests")
        tally.check(f"{client}: no opaque token goes upstream", not any(t.encode() in recorder.bytes for t in opaque))
        tally.check(f"{client}: an unknown one", harness.call(url, PLAIN, "A" * 43).status == 401)


def main():
    tally = harness.Tally("oauth")
    # The longest first: it mostly waits.
    parts = [(tokens.rotation,), (tokens.by_hand,)] + [(story, client) for client in clients.CLIENTS]
    if harness.GATEWAY != "naive":
        parts.append((tokens.without_discovery,))
        parts += [(introspection, client) for client in ("typescript/auto", "python/legacy")]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(tally.part, *part) for part in parts]:
            future.result()
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

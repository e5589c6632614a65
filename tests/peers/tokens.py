"""What oauth.py asks by hand: challenges and metadata, scopes, algorithms, and rotation of the provider's keys.

Not here: forged tokens of every kind; they need no provider.
"""

import base64
import concurrent.futures
import contextlib
import json
import re
import time

import harness
from identity import GUARDED, PLAIN, SCOPES, SKEW, Provider, guarded

BOTH = "application/json, text/event-stream"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "hand", "version": "1"}},
}


def challenges(tally, provider, url, recorder):
    """What a caller without a right token is told, and where it is sent."""
    metadata = url.replace("/mcp/", "/.well-known/oauth-protected-resource/mcp/")
    without = {
        "tools/call": harness.call(url, PLAIN),
        "initialize": harness.ask(url, INITIALIZE, {"content-type": "application/json", "accept": BOTH}),
        "GET": harness.ask(url, headers={"accept": "text/event-stream"}),
    }
    for what, answer in without.items():
        unauthenticated(tally, f"no token, {what}", answer, metadata)
    found = harness.ask(metadata)
    tally.check("metadata: status and type", found.status == 200 and "json" in found.headers["content-type"], found)
    said = found.json
    tally.check("metadata: resource", said["resource"] == url, said)
    tally.check("metadata: authorization_servers", said["authorization_servers"] == [provider.issuer], said)
    tally.check("metadata: bearer_methods_supported", said["bearer_methods_supported"] == ["header"], said)
    offered = said.get("scopes_supported", [])
    tally.check("metadata: scopes_supported", set(SCOPES) <= set(offered), said)
    tally.check("metadata: offline_access is not ours to offer", "offline_access" not in offered, said)
    for what, token in refused_tokens(provider, url).items():
        unauthenticated(tally, what, harness.call(url, PLAIN, token), metadata)
    good = provider.token(url)
    unauthenticated(tally, "a token in the query", harness.call(f"{url}?access_token={good}", PLAIN), metadata)
    tally.check("refused calls stay here", PLAIN.encode() not in recorder.bytes, recorder.bytes[-300:])
    tally.check("the good token", harness.call(url, PLAIN, good).status == 200)
    tally.check("the good call arrives", PLAIN.encode() in recorder.bytes, recorder.bytes[-300:])


def unauthenticated(tally, what, answer, metadata):
    challenge = answer.headers.get("www-authenticate", "")
    named = challenge.startswith("Bearer ") and f'resource_metadata="{metadata}"' in challenge
    tally.check(f"{what}: 401 with a challenge", answer.status == 401 and named, answer)
    tally.check(f"{what}: reason", '"unauthenticated"' in answer.text and "-33401" in answer.text, answer)


def refused_tokens(provider, url):
    """Tokens that the provider signed and the gateway must not take, and the good one, tampered with."""
    origin = url.removesuffix("/mcp/up")
    audiences = {
        "another server": f"{origin}/mcp/other",
        "a longer name": f"{url}2",
        "another case": f"{origin}/MCP/up",
        "another gateway": "http://gateway.example/mcp/up",
    }
    tokens = {f"the audience of {what}": provider.token(audience) for what, audience in audiences.items()}
    head, payload, signature = provider.token(url).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
    tokens["alg none"] = f"{none}.{payload}."
    tokens["no signature"] = f"{head}.{payload}."
    tokens["another signature"] = f"{head}.{payload}.{signature[:-8]}AAAAAAA{signature[-1]}"
    tokens["an opaque token"] = "tz0aLwG-l9p0G0808j67IMjwADfqb-uGTjRiP6Zkkb7"
    provider.steer("set", ttl=1, behind=SKEW + 5)
    tokens["expired beyond the skew"] = provider.token(url)
    provider.steer("set", ttl=300, behind=0)
    with harness.provider() as port:
        # Its keys have the same names.
        tokens["another issuer"] = Provider(port).token(url)
    return tokens


def scopes(tally, provider, url):
    metadata = url.replace("/mcp/", "/.well-known/oauth-protected-resource/mcp/")
    for held in ("mcp", "mcp repo:delete"):
        answer = harness.call(url, GUARDED, provider.token(url, held.replace(" ", "+")))
        challenge = answer.headers.get("www-authenticate", "")
        asked = re.search(r'scope="([^"]*)"', challenge)
        told = 'error="insufficient_scope"' in challenge and f'resource_metadata="{metadata}"' in challenge
        tally.check(f"with {held}: 403 with a challenge", answer.status == 403 and told, answer)
        tally.check(f"with {held}: every scope of the tool", asked and set(SCOPES) <= set(asked[1].split()), answer)
        tally.check(f"with {held}: one challenge", len(answer.headers.get_all("www-authenticate", [])) == 1, answer)
        tally.check(f"with {held}: reason", '"insufficient_scope"' in answer.text and "-33403" in answer.text, answer)
    answer = harness.call(url, GUARDED, provider.token(url, "+".join(SCOPES)))
    tally.check("with all scopes", answer.status == 200 and "two" in answer.text, answer)


def algorithms(tally, provider, url):
    for algorithm in ("RS256", "PS256", "ES256", "EdDSA"):
        provider.steer("set", alg=algorithm)
        answer = harness.call(url, PLAIN, provider.token(url))
        tally.check(f"signed with {algorithm}", answer.status == 200, answer)


def by_hand(tally):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.typescript_server("modern"))
        recorder = stack.enter_context(harness.Recorder(server))
        provider = Provider(stack.enter_context(harness.provider()))
        url = stack.enter_context(guarded(harness.upstream_url(recorder.port), provider))
        challenges(tally, provider, url, recorder)
        scopes(tally, provider, url)
        algorithms(tally, provider, url)
        if harness.GATEWAY != "naive":
            endpoints(tally, provider, url)
        issued = provider.steer("seen")["issued"]
        found = [token for token in issued if token.encode() in recorder.bytes]
        tally.check("by hand: no token goes upstream", issued and not found, found)


def endpoints(tally, provider, url):
    """One audience for all endpoints, one for each."""
    everything = url.removesuffix("/up")
    metadata = everything.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    for place in (metadata, metadata.removesuffix("/mcp")):
        found = harness.ask(place)
        tally.check(f"{place}: resource", found.status == 200 and found.json["resource"] == everything, found)
    answer = harness.call(url, PLAIN, provider.token(everything))
    tally.check("the audience of all at one", answer.status == 200, answer)


def rotation(tally):
    """The provider's keys change while the gateway runs, and in the end the provider is gone.

    An unknown key makes the gateway ask for keys once in half a minute, so the second change takes that long.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.typescript_server("modern"))
        gone = stack.enter_context(contextlib.ExitStack())
        provider = Provider(gone.enter_context(harness.provider()))
        url = stack.enter_context(guarded(harness.upstream_url(server), provider))

        def status(token):
            return harness.call(url, PLAIN, token).status

        # A caller that comes while the gateway fetches its first keys would be the one unknown key of this half minute.
        tally.check(
            "keys at the start", within(5, lambda: provider.asked_for("GET /jwks") == 1 or harness.GATEWAY == "naive")
        )
        time.sleep(0.5)
        first = provider.token(url)
        tally.check("first keys", status(first) == 200)
        before = provider.asked_for("GET /jwks")
        provider.steer("rotate")
        second = provider.token(url)
        with concurrent.futures.ThreadPoolExecutor(20) as many:
            found = list(many.map(status, [second] * 20))
        tally.check("new keys at once", found == [200] * 20, found)
        asked = provider.asked_for("GET /jwks") - before
        tally.check("new keys are asked for once", asked == 1, f"{asked} requests")
        tally.check("old keys beside the new ones", status(first) == 200)
        provider.steer("rotate")
        provider.steer("drop")
        third = provider.token(url)
        tally.check("keys again, soon after", within(40, lambda: status(third) == 200))
        tally.check("dropped keys", within(5, lambda: status(first) == 401))
        forged = [with_kid(third, f"nobody-{number}") for number in range(20)]
        before = provider.asked_for("GET /jwks")
        found = [status(token) for token in forged]
        tally.check("unknown keys", found == [401] * 20, found)
        asked = provider.asked_for("GET /jwks") - before
        once = asked <= 1 or harness.GATEWAY == "naive"
        tally.check("unknown keys are asked for once at most", once, f"{asked} requests")
        gone.close()
        tally.check("known keys without the provider", status(third) == 200)
        found = [status(with_kid(third, "unheard-of")), status(first)]
        tally.check("unknown keys without the provider", found == [401, 401], found)


def with_kid(token, kid):
    head, rest = token.split(".", 1)
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    renamed = json.dumps({**header, "kid": kid}).encode()
    return f"{base64.urlsafe_b64encode(renamed).decode().rstrip('=')}.{rest}"


def within(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def without_discovery(tally):
    """A provider that has RFC 8414 metadata only."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.typescript_server("modern"))
        provider = Provider(stack.enter_context(harness.provider()))
        provider.steer("set", hide="/.well-known/openid-configuration")
        url = stack.enter_context(guarded(harness.upstream_url(server), provider))
        answer = harness.call(url, PLAIN, provider.token(url))
        tally.check("RFC 8414 metadata", answer.status == 200, answer)
        asked = provider.asked_for("GET /.well-known/oauth-authorization-server")
        tally.check("RFC 8414 metadata is asked for", asked == 1, f"{asked} requests")

"""The gateway as an OAuth client: what it shows to servers that take only tokens of a real provider.

The server is fixtures/guard.mjs, which checks issuer, signature and audience. The client's own token is for the
gateway, so a call that arrives has been made with another.

Not here: what the gateway asks of its own callers (oauth.py).
"""

import concurrent.futures
import contextlib
import json
import re
import urllib.parse

import clients
import harness
from identity import AGENT, GATEWAY, PLAIN, Provider, claims, guarded
from tokens import within

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SAYS = "This is a simple text response for testing."


class Bench:
    """The gateway with `auth` of KIND in front of a server that takes tokens of the provider, and what goes between."""

    def __init__(self, stack, kind):
        server = stack.enter_context(harness.typescript_server("dual"))
        self.provider = Provider(stack.enter_context(harness.provider()))
        self.recorder = stack.enter_context(harness.Recorder())
        origin = f"http://127.0.0.1:{self.recorder.port}"
        self.audience = f"{origin}/mcp/up"
        guard = ("fixtures/guard.mjs", harness.upstream_url(server), self.provider.issuer, "{}", origin)
        self.recorder.target = stack.enter_context(harness.process(harness.NODE, *guard))
        listen = harness.free_port()
        auth = {"kind": kind, "scopes": ["mcp"], **self.client(kind, listen)}
        self.url = stack.enter_context(guarded(self.audience, self.provider, {"auth": auth}, listen))

    def client(self, kind, listen):
        """Who the gateway is at the provider."""
        self.name, secret = GATEWAY
        more = {}
        if kind == "tokenExchange":
            more = {"audience": self.audience}
        if kind == "userOAuth":
            callback = f"http://127.0.0.1:{listen}/oauth/callback"
            self.name, secret = self.provider.register(callback)
            more = {"issuer": self.provider.issuer, "authorize": f"{self.provider.issuer}/auth", "callback": callback}
        return {"endpoint": f"{self.provider.issuer}/token", "clientId": self.name, "secret": secret, **more}

    def call(self, token):
        return harness.call(self.url, PLAIN, token)

    def grants(self, kind):
        return self.provider.steer("seen")["grants"].count(kind)

    def shown(self):
        """The claims of every token that went to the server."""
        found = set(re.findall(rb"(?i)authorization: bearer ([^\r\n]+)", self.recorder.bytes))
        return [claims(token.decode()) for token in found]


def both_eras(tally, bench, name):
    """An SDK client of each era authorizes itself, and its call arrives."""
    oauth = {"issuer": bench.provider.issuer, "user": "alice", "withhold": []}
    for client in ("typescript/auto", "python/legacy"):
        steps = clients.titled([{"play": "call", "name": PLAIN, "shows": SAYS}], False, False)
        outcomes = clients.play(client, bench.url, steps, {"PEERS_OAUTH": json.dumps(oauth)})
        tally.check(
            f"{name}, {client}: the call arrives", SAYS in clients.as_text(outcomes), clients.as_text(outcomes)[:600]
        )
    shown = bench.shown()
    foreign = [token for token in shown if token["aud"] != bench.audience or token["client_id"] != bench.name]
    tally.check(f"{name}: every token is for the server, and the gateway's", shown and not foreign, shown)
    return shown


def together(tally, bench, name, kind):
    """Many first calls at once are one question to the provider."""
    token = bench.provider.token(bench.url)
    before = bench.grants(kind)
    with concurrent.futures.ThreadPoolExecutor(20) as many:
        found = list(many.map(lambda _: bench.call(token).status, range(20)))
    tally.check(f"{name}: calls at once", found == [200] * 20, found)
    return bench.grants(kind) - before


def exchange(tally):
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, "tokenExchange")
        shown = both_eras(tally, bench, "exchange")
        subjects = {token["sub"] for token in shown}
        tally.check("exchange: on behalf of the caller", subjects == {"alice"}, shown)
        tally.check("exchange: the actor", all(token.get("act") == {"sub": GATEWAY[0]} for token in shown), shown)
        tally.check("exchange: the scopes", all(token.get("scope") == "mcp" for token in shown), shown)
        asked = together(tally, bench, "exchange", EXCHANGE)
        tally.check("exchange: one for another caller", asked == 1, f"{asked} exchanges")
        tally.check(
            "exchange: for each caller its own", {token["sub"] for token in bench.shown()} == {"alice", AGENT[0]}
        )


def client_credentials(tally):
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, "clientCredentials")
        shown = both_eras(tally, bench, "client credentials")
        tally.check("client credentials: the gateway's own", {token["sub"] for token in shown} == {GATEWAY[0]}, shown)
        token = bench.provider.token(bench.url)
        before = bench.grants("client_credentials")
        found = {bench.call(token).status for _ in range(5)}
        asked = bench.grants("client_credentials") - before
        tally.check("client credentials: kept", found == {200} and asked == 0, f"{found}, {asked} grants")
        renewed(tally, bench)


def renewed(tally, bench):
    """A token that the server takes no more is replaced without a word, and one that ends soon before its end."""
    # Kept until half a minute before their end, the tokens from here on are kept for a second.
    bench.provider.steer("set", ttl=31)
    bench.provider.steer("rotate")
    bench.provider.steer("drop")
    token = bench.provider.token(bench.url)
    before = bench.grants("client_credentials")
    answer = bench.call(token)
    tally.check("client credentials: after a 401", answer.status == 200 and SAYS in answer.text, answer)
    asked = bench.grants("client_credentials") - before
    tally.check("client credentials: one renewal after a 401", asked == 1, f"{asked} grants")

    def another():
        return bench.call(token).status == 200 and bench.grants("client_credentials") > before + 1

    tally.check("client credentials: renewed before the end", within(5, another))


def user_oauth(tally):
    """A user consents in a browser, once, and the gateway keeps what the provider gave it."""
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, "userOAuth")
        page = needs_consent(tally, bench)
        callback = harness.walk(page)
        tally.check("user: comes back to the gateway", callback.startswith(bench.url.removesuffix("/mcp/up")), callback)
        shown = both_eras(tally, bench, "user")
        # Whoever sits at the browser: nobody told the provider that it is Alice.
        tally.check("user: who consented", {token["sub"] for token in shown} == {"nobody"}, shown)
        asked = bench.provider.asked_for("GET /auth")
        # Three times for the clients' own tokens, and the one consent.
        tally.check("user: consents once", asked == 4, f"{asked} authorizations")
        answer = bench.call(bench.provider.token(bench.url))
        said = f"{bench.provider.issuer}/auth?" in answer.text and answer.status == 403
        tally.check("user: another one is told where", said, answer)
        answer = harness.ask(callback)
        tally.check("user: a state that was used", 400 <= answer.status < 500, answer)


def needs_consent(tally, bench):
    """Where a client of Alice is told to send her."""
    oauth = {"issuer": bench.provider.issuer, "user": "alice", "withhold": []}
    steps = clients.titled([{"play": "call", "name": PLAIN}], False, False)
    outcomes = clients.play("python/legacy", bench.url, steps, {"PEERS_OAUTH": json.dumps(oauth)})
    told = re.search(rf"{bench.provider.issuer}/auth\?[^\s\"\\]+", clients.as_text(outcomes))
    tally.check("user: is told where to consent", told, clients.as_text(outcomes)[:600])
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(told[0]).query))
    tally.check("user: PKCE", query["code_challenge_method"] == "S256" and query["code_challenge"], query)
    tally.check("user: a state", len(query["state"]) >= 22, query)
    tally.check("user: the resource", query["resource"] == bench.audience, query)
    return told[0]


def main():
    tally = harness.Tally("credentials")
    for part in (exchange, client_credentials, user_oauth):
        tally.part(part)
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

"""A real OpenID provider (fixtures/provider.mjs), and the gateway that takes its tokens.

Not here: any test.
"""

import base64
import contextlib
import json

import harness

# By how many seconds a token may be used after its end: clocks differ.
SKEW = 60
# One tool that every caller may call, and one that needs both scopes.
PLAIN = "test_simple_text"
GUARDED = "structured_result"
SCOPES = ["repo:delete", "repo:admin"]
AGENT = ("agent-7", "agent-7-secret")
GATEWAY = ("gateway", "gateway-secret")


class Provider:
    """The running provider, seen from a test."""

    def __init__(self, port):
        self.issuer = f"http://127.0.0.1:{port}"

    def steer(self, name, **change):
        return harness.ask(f"{self.issuer}/control/{name}", change).json

    def token(self, audience, scope="mcp"):
        """A token by client credentials."""
        form = f"grant_type=client_credentials&resource={audience}&scope={scope}".encode()
        return harness.ask(f"{self.issuer}/token", form, basic(*AGENT)).json["access_token"]

    def register(self, callback):
        """A client that comes back to CALLBACK: its name and its secret."""
        client = {
            "redirect_uris": [callback],
            "application_type": "native",
            "grant_types": ["authorization_code", "refresh_token"],
        }
        found = harness.ask(f"{self.issuer}/reg", client, {"content-type": "application/json"}).json
        return found["client_id"], found["client_secret"]

    def asked_for(self, what):
        return self.steer("seen")["requests"].count(what)


def basic(name, secret):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


@contextlib.contextmanager
def guarded(upstream, provider, server=None, port=None, **jwt):
    """The gateway, for tokens of PROVIDER, in front of UPSTREAM; yields its endpoint, which is the audience too.

    SERVER holds further keys of the server, JWT further keys of the issuer.
    """
    if harness.GATEWAY == "naive":
        rules = json.dumps({GUARDED: SCOPES})
        with harness.process(harness.NODE, "fixtures/guard.mjs", upstream, provider.issuer, rules) as port:
            yield f"http://127.0.0.1:{port}/mcp/up"
        return
    port = port or harness.free_port()
    audience = f"http://127.0.0.1:{port}/mcp"
    identity = {
        "jwt": [{"issuer": provider.issuer, "audiences": [audience], "principal": "sub", "roles": "groups", **jwt}]
    }
    rule = {"name": "guarded-needs-scopes", "tools": [f"up.{GUARDED}"], "scopes": SCOPES}
    more = f"access: {json.dumps([rule])}"
    with harness.gateway(upstream, json.dumps(identity), f"127.0.0.1:{port}", server, more):
        yield f"{audience}/up"

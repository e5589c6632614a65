"""Requests of both eras by hand, each on a connection of its own, so that any worker may get it.

Not here: any test, and what the SDKs do by themselves.
"""

import http.client
import itertools
import json
import time
import urllib.parse

import harness

ALL = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}
REVISION = "2025-11-25"
_ids = itertools.count(1)


class Reply:
    """What came: the status, the fields, and every JSON-RPC message of a JSON or an SSE body. Status 0: nothing came."""

    def __init__(self, status, headers, text):
        self.status = status
        self.headers = headers
        self.text = text
        stream = self.headers.get("content-type", "").startswith("text/event-stream")
        bodies = [line[5:] for line in self.text.splitlines() if line.startswith("data:")] if stream else [self.text]
        self.messages = [json.loads(body) for body in bodies if body.strip().startswith("{")]

    def _last(self, member):
        return next((message[member] for message in reversed(self.messages) if member in message), None)

    @property
    def result(self):
        return self._last("result")

    @property
    def error(self):
        return self._last("error")

    @property
    def reason(self):
        data = (self.error or {}).get("data")
        return data.get("reason") if isinstance(data, dict) else None

    @property
    def refusal(self):
        """Status, code and reason."""
        return self.status, (self.error or {}).get("code"), self.reason

    @property
    def asks(self):
        return (self.result or {}).get("resultType") == "input_required"

    @property
    def said(self):
        """The texts of a result, or what there is instead."""
        contents = (self.result or {}).get("content") or [
            message["content"] for message in (self.result or {}).get("messages", [])
        ]
        return " ".join(block.get("text", "") for block in contents) if contents else repr(self)

    def without_trace(self):
        """The body without what differs between two requests."""
        error = dict(self.error or {})
        error["data"] = {key: value for key, value in (error.get("data") or {}).items() if key != "traceId"}
        return self.status, json.dumps(error, sort_keys=True)

    def __repr__(self):
        return f"{self.status} {self.text[:700]}"


def send(url, verb, message=None, headers=None, key=None):
    target = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=20)
    fields = {"accept": "application/json, text/event-stream", **(headers or {})}
    if message is not None:
        fields["content-type"] = "application/json"
    if key:
        fields["authorization"] = f"Bearer {key}"
    try:
        connection.request(verb, target.path, None if message is None else json.dumps(message).encode(), fields)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, {}, repr(error))
    finally:
        connection.close()


def modern(url, method, params=None, key=None, capabilities=ALL):
    """A request of 2026-07-28, with the headers that repeat it."""
    meta = {**harness.META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    params = {**(params or {}), "_meta": meta}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    name = params.get("uri") if method == "resources/read" else params.get("name")
    if name:
        headers["mcp-name"] = name
    message = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
    return send(url, "POST", message, headers, key)


def legacy(url, method, params=None, session=None, key=None):
    """A request of 2025-11-25 or, without an answer, a notification."""
    message = {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}
    if not method.startswith("notifications/"):
        message["id"] = next(_ids)
    headers = {"mcp-session-id": session, "mcp-protocol-version": REVISION} if session else {}
    return send(url, "POST", message, headers, key)


def initialize(url, key=None):
    """A new session's id, or None and the answer."""
    client = {"name": "hand", "version": "1"}
    params = {"protocolVersion": REVISION, "capabilities": ALL, "clientInfo": client}
    reply = legacy(url, "initialize", params, key=key)
    session = reply.headers.get("mcp-session-id")
    if session:
        legacy(url, "notifications/initialized", session=session, key=key)
    return session, reply


def fill(schema):
    """Content that an elicitation's schema takes."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return choices[0]["const"]
    kind = schema.get("type")
    if kind == "array":
        return [fill(schema["items"])]
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"email": "peer@example.com", "uri": "https://example.com/", "date": "2026-01-02"}.get(
        schema.get("format"), "peer"
    )


def answer(request):
    """What a user, a model or a client says to one question."""
    params = request.get("params") or {}
    if request["method"] == "elicitation/create":
        properties = params["requestedSchema"]["properties"]
        return {"action": "accept", "content": {name: fill(schema) for name, schema in properties.items()}}
    if request["method"] == "sampling/createMessage":
        content = params["messages"][0]["content"]
        first = content[0] if isinstance(content, list) else content
        text = {"type": "text", "text": f"Sampled: {first['text']}"}
        return {"model": "peer", "role": "assistant", "content": text}
    return {"roots": [{"uri": "file:///peer", "name": "peer"}]}


def retry(params, reply, leave_out=()):
    """PARAMS again, with answers to what REPLY asks, and its state."""
    result = reply.result or {}
    asked = result.get("inputRequests") or {}
    params = {**params, "inputResponses": {key: answer(it) for key, it in asked.items() if key not in leave_out}}
    if "requestState" in result:
        params["requestState"] = result["requestState"]
    return params


def until(attempt, seconds=10):
    """What ATTEMPT returns as soon as that is true, or what it returned last."""
    end = time.monotonic() + seconds
    while not (found := attempt()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def names_listed(url, key=None):
    """The tools of every page, in order; a refused list is an empty one."""
    names, cursor = [], None
    while True:
        reply = modern(url, "tools/list", {} if cursor is None else {"cursor": cursor}, key)
        if not reply.result:
            return names
        names += [tool["name"] for tool in reply.result["tools"]]
        cursor = reply.result.get("nextCursor")
        if cursor is None:
            return names


def ready(origin, servers, key=None):
    """Waits until each of SERVERS has been listed; whether it has."""

    def listed():
        found = {name.split("__")[0] for name in names_listed(f"{origin}/mcp", key)}
        return found >= set(servers)

    return until(listed)

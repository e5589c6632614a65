"""Plays steps with the official Python client and prints what came of each, as one JSON array.

    python.py MODE URL STEPS

MODE is auto or legacy; STEPS is the JSON that the groups make. PEERS_KEY, where set, is sent as a bearer token;
PEERS_OAUTH, JSON with issuer, user and withhold, makes the client authorize itself where it is asked to; PEERS_CA, an
authority's certificate, makes it speak HTTP/2 over TLS; PEERS_PROBE_MS bounds every request, the probe for the server's
era among them.

Not here: what is right; the groups compare.
"""

import asyncio
import json
import os
import ssl
import sys

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from oauth import Human, browse

MODERN = "2026-07-28"
# The client's own default is 1 MiB, which the large results pass.
MAX_EVENT = 16 << 20
LISTS = {
    "tools": "list_tools",
    "prompts": "list_prompts",
    "resources": "list_resources",
    "resourceTemplates": "list_resource_templates",
}


def fill(schema):
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
    formats = {"email": "peer@example.com", "uri": "https://example.com/", "date": "2026-01-02"}
    return formats.get(schema.get("format"), "peer")


def plain(value):
    if hasattr(value, "model_dump"):
        return value.model_dump(by_alias=True, mode="json", exclude_none=True)
    return value


class Peer:
    def __init__(self, mode, url):
        self.mode = mode
        self.url = url
        self.statuses = {}
        self.session_id = None
        self.get_open = asyncio.Event()
        self.logged = []
        self.seen = []
        self.notified = {}
        key = os.environ.get("PEERS_KEY")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.oauth = json.loads(os.environ.get("PEERS_OAUTH", "null"))
        self.human = self.oauth and Human(self.oauth["user"], self.oauth["withhold"])

    async def on_response(self, response):
        method = response.request.method
        self.statuses.setdefault(method, []).append(response.status_code)
        self.http = response.http_version
        self.session_id = response.headers.get("mcp-session-id", self.session_id)
        if method == "GET":
            self.get_open.set()

    async def elicited(self, context, params):
        if params.mode == "url":
            await browse(params.url)
            return types.ElicitResult(action="accept")
        content = {name: fill(schema) for name, schema in params.requested_schema["properties"].items()}
        return types.ElicitResult(action="accept", content=content)

    async def sampled(self, context, params):
        content = params.messages[0].content
        first = content[0] if isinstance(content, list) else content
        answer = types.TextContent(type="text", text=f"Sampled: {first.text}")
        return types.CreateMessageResult(model="peer", role="assistant", content=answer)

    async def rooted(self, context):
        return types.ListRootsResult(roots=[types.Root(uri="file:///peer", name="peer")])

    async def on_log(self, params):
        self.logged.append(params.data)

    async def on_message(self, message):
        if isinstance(message, Exception):
            return
        uri = getattr(getattr(message, "params", None), "uri", None)
        self.seen.append(message.method + (f" {uri}" if uri else ""))
        if message.method in self.notified:
            self.notified[message.method].set()

    async def play(self, steps):
        outcomes = []
        authority = os.environ.get("PEERS_CA")
        async with httpx2.AsyncClient(
            headers=self.headers,
            auth=self.human and self.human.auth(self.url),
            verify=ssl.create_default_context(cafile=authority) if authority else True,
            http2=bool(authority),
            event_hooks={"response": [self.on_response]},
            timeout=30,
        ) as http:
            self.client = Client(
                streamable_http_client(self.url, http_client=http, max_sse_event_size=MAX_EVENT),
                mode=self.mode,
                read_timeout_seconds=int(os.environ.get("PEERS_PROBE_MS", "30000")) / 1000,
                log_level="info",
                sampling_callback=self.sampled,
                elicitation_callback=self.elicited,
                list_roots_callback=self.rooted,
                logging_callback=self.on_log,
                message_handler=self.on_message,
                client_info=types.Implementation(name="peer", version="1.0.0"),
            )
            terminate = None
            try:
                async with self.client:
                    outcomes.append({"step": "connect", "ok": True})
                    for step in steps:
                        if step["play"] == "terminate":
                            terminate = step  # leaving the client is what ends the session
                            continue
                        try:
                            result = await asyncio.wait_for(getattr(self, step["play"])(step), 30)
                            outcomes.append({"step": step["title"], "ok": result})
                        except Exception as error:
                            outcomes.append({"step": step["title"], "error": describe(error)})
            except BaseException as error:
                outcomes.append({"step": "connect", "error": describe(error)})
            if terminate:
                outcomes.append({"step": terminate["title"], "ok": await self.after_end(http)})
        return outcomes

    async def after_end(self, http):
        deleted = self.statuses.get("DELETE")
        if self.session_id is None:
            return {"had": False, "deleted": deleted, "afterwards": None}
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
            "mcp-session-id": self.session_id,
        }
        late = await http.post(self.url, headers=headers, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        return {"had": True, "deleted": deleted, "afterwards": late.status_code}

    @property
    def modern(self):
        return self.client.protocol_version >= MODERN

    async def info(self, step):
        return {
            "version": self.client.protocol_version,
            "server": plain(self.client.server_info),
            "capabilities": plain(self.client.server_capabilities),
            "instructions": self.client.instructions,
            # Nothing else shows whether this client got the HTTP that it asked for.
            **({"http": self.http} if "PEERS_CA" in os.environ else {}),
        }

    async def ping(self, step):
        return plain(await self.client.send_ping())

    async def tools(self, step):
        return plain(await self.client.list_tools())

    async def resources(self, step):
        return plain(await self.client.list_resources())

    async def prompts(self, step):
        return plain(await self.client.list_prompts())

    async def templates(self, step):
        templates = []
        cursor = None
        while True:
            page = await self.client.list_resource_templates(cursor=cursor)
            templates += [plain(template) for template in page.resource_templates]
            cursor = page.next_cursor
            if cursor is None:
                return templates

    async def list(self, step):
        """Every page of one kind."""
        entries, cursor = [], None
        while True:
            page = plain(await getattr(self.client, LISTS[step["kind"]])(cursor=cursor))
            entries += page[step["kind"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                return entries

    async def bad_cursor(self, step):
        return plain(await self.client.list_resource_templates(cursor="no such page"))

    async def call(self, step):
        self.logged.clear()
        progress = []

        async def on_progress(done, total, message):
            progress.append({"progress": done, "total": total, "message": message})

        if step.get("log") and not self.modern:
            await self.client.set_logging_level("info")
        callback = on_progress if step.get("progress") else None
        result = await self.client.call_tool(step["name"], step.get("arguments", {}), progress_callback=callback)
        outcome = {"result": plain(result)}
        if step.get("progress"):
            outcome["progress"] = progress
        if step.get("log"):
            outcome["logged"] = list(self.logged)
        return outcome

    async def parallel(self, step):
        calls = [self.client.call_tool(step["name"], {"bytes": size}) for size in step["sizes"]]
        return [plain(result) for result in await asyncio.gather(*calls)]

    async def read(self, step):
        return plain(await self.client.read_resource(step["uri"]))

    async def prompt(self, step):
        return plain(await self.client.get_prompt(step["name"], step.get("arguments")))

    async def complete(self, step):
        kind = types.PromptReference if step["ref"]["type"] == "ref/prompt" else types.ResourceTemplateReference
        reference = kind.model_validate(step["ref"])
        return plain(await self.client.complete(reference, step["argument"]))

    async def provider(self, step):
        async with httpx2.AsyncClient() as http:
            return (await http.post(f"{self.oauth['issuer']}/control/set", json=step["set"])).status_code

    async def expired(self, step):
        headers = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {self.human.memory.tokens.access_token}",
        }
        async with httpx2.AsyncClient() as http:
            for tries in range(100):
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                refused = (await http.post(self.url, headers=headers, json=ping)).status_code == 401
                # This client refreshes by its own clock; a 401 before that makes it ask its human again.
                if refused and not self.human.flow.context.is_token_valid():
                    return {"tries": tries}
                await asyncio.sleep(0.1)
        raise RuntimeError("the token does not expire")

    async def asked(self, step):
        return self.human.asked

    async def notified_on_listen(self, step):
        # The kinds asked for are those of the TypeScript driver.
        uris = [step["uri"]] if "uri" in step else []
        async with self.client.listen(tools_list_changed=True, resource_subscriptions=uris) as subscription:
            await self.client.call_tool(step["trigger"], {})
            return await asyncio.wait_for(self.told(subscription, step.get("uri", "ToolsListChanged")), 5)

    async def told(self, subscription, wanted):
        # What a step before has caused may come late.
        async for event in subscription:
            if wanted in repr(event):
                return repr(event)

    async def notified_on_get(self, step):
        method = f"notifications/{step['notification']}"
        self.notified[method] = asyncio.Event()
        await asyncio.wait_for(self.get_open.wait(), 5)
        if "uri" in step:
            await self.client.subscribe_resource(step["uri"])
        await self.client.call_tool(step["trigger"], {})
        await asyncio.wait_for(self.notified[method].wait(), 5)
        return sorted(set(line for line in self.seen if line.startswith(method)))

    async def await_notification(self, step):
        return await (self.notified_on_listen(step) if self.modern else self.notified_on_get(step))


def describe(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    described = {"name": type(error).__name__, "message": str(error)}
    if isinstance(error, MCPError):
        described |= {"code": error.code, "data": plain(error.data)}
    return described


def main():
    mode, url, steps = sys.argv[1:]
    steps = json.loads(steps)
    for step in steps:
        if step["play"] == "notified":
            step["play"] = "await_notification"
    outcomes = asyncio.run(Peer(mode, url).play(steps))
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()

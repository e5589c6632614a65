// Plays steps with an official TypeScript client and prints what came of each, as one JSON array.
//
//   typescript.mjs CLIENT URL STEPS
//
// CLIENT is auto or legacy (`@modelcontextprotocol/client` 2) or sdk1 (`@modelcontextprotocol/sdk` 1). STEPS is the
// JSON that the groups make. PEERS_KEY, where set, is sent as a bearer token; PEERS_OAUTH, JSON with issuer, user and
// withhold, makes the client authorize itself where it is asked to; PEERS_PROBE_MS bounds the probe for the server's era.
//
// Not here: what is right; the groups compare.
import { browse, Human } from './oauth.mjs';

const [kind, url, stepsJson] = process.argv.slice(2);
const LOG_LEVEL = 'io.modelcontextprotocol/logLevel';
const LISTS = {
  tools: 'listTools',
  prompts: 'listPrompts',
  resources: 'listResources',
  resourceTemplates: 'listResourceTemplates',
};
const CAPABILITIES = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };

// What went over the wire that the client's own API does not show.
const statuses = {};
async function recordingFetch(input, init) {
  const response = await fetch(input, init);
  (statuses[init?.method ?? 'GET'] ??= []).push(response.status);
  refused = response.status === 403;
  return response;
}
let refused = false;
const oauth = process.env.PEERS_OAUTH && JSON.parse(process.env.PEERS_OAUTH);
// Version 1 answers a demand for more scopes with a refresh, which brings none, where it has a refresh token.
const human = oauth && new Human({ ...oauth, forgetful: kind === 'sdk1' ? () => refused : undefined });
const options = {
  fetch: recordingFetch,
  authProvider: human,
  requestInit: process.env.PEERS_KEY ? { headers: { Authorization: `Bearer ${process.env.PEERS_KEY}` } } : undefined,
};

async function open() {
  if (kind === 'sdk1') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const types = await import('@modelcontextprotocol/sdk/types.js');
    const schemas = {
      'elicitation/create': types.ElicitRequestSchema,
      'sampling/createMessage': types.CreateMessageRequestSchema,
      'roots/list': types.ListRootsRequestSchema,
      'notifications/message': types.LoggingMessageNotificationSchema,
      'notifications/tools/list_changed': types.ToolListChangedNotificationSchema,
      'notifications/resources/updated': types.ResourceUpdatedNotificationSchema,
    };
    const client = new Client({ name: 'peer', version: '1.0.0' }, { capabilities: CAPABILITIES });
    return {
      client,
      newTransport: () => new StreamableHTTPClientTransport(new URL(url), options),
      finishAuth: (transport, callback) => transport.finishAuth(callback.get('code')),
      answer: (method, handler) => client.setRequestHandler(schemas[method], handler),
      on: (method, handler) => client.setNotificationHandler(schemas[method], handler),
      call: (params, more) => client.callTool(params, undefined, more),
      version: transport => transport.protocolVersion,
    };
  }
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const client = new Client({ name: 'peer', version: '1.0.0' }, {
    capabilities: CAPABILITIES,
    versionNegotiation: { mode: kind, probe: { timeoutMs: Number(process.env.PEERS_PROBE_MS ?? 20_000) } },
  });
  return {
    client,
    newTransport: () => new StreamableHTTPClientTransport(new URL(url), options),
    finishAuth: (transport, callback) => transport.finishAuth(callback),
    answer: (method, handler) => client.setRequestHandler(method, handler),
    on: (method, handler) => client.setNotificationHandler(method, handler),
    call: (params, more) => client.callTool(params, more),
    version: () => client.getNegotiatedProtocolVersion(),
  };
}

const { client, newTransport, finishAuth, answer, on, call, version } = await open();
let transport = newTransport();

// An SDK that has sent its human to the provider gives up; the caller tries again with what the human brought back.
async function authorized(attempt, again = attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (!human?.hasPage) throw error;
    await finishAuth(transport, await human.walk());
    return again();
  }
}
const connect = () => client.connect(transport);

function fill(schema) {
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.oneOf ?? schema.anyOf) return (schema.oneOf ?? schema.anyOf)[0].const;
  if (schema.type === 'array') return [fill(schema.items)];
  if (schema.type === 'boolean') return true;
  if (schema.type === 'integer' || schema.type === 'number') return schema.minimum ?? 1;
  return { email: 'peer@example.com', uri: 'https://example.com/', date: '2026-01-02' }[schema.format] ?? 'peer';
}

answer('elicitation/create', async ({ params }) => {
  if (params.mode === 'url') {
    await browse(params.url);
    return { action: 'accept' };
  }
  const content = Object.entries(params.requestedSchema.properties).map(([name, schema]) => [name, fill(schema)]);
  return { action: 'accept', content: Object.fromEntries(content) };
});
answer('sampling/createMessage', async ({ params }) => ({
  model: 'peer',
  role: 'assistant',
  content: { type: 'text', text: `Sampled: ${[params.messages[0].content].flat()[0].text}` },
}));
answer('roots/list', async () => ({ roots: [{ uri: 'file:///peer', name: 'peer' }] }));

let logged = [];
const seen = [];
const notified = new Map();
on('notifications/message', async ({ params }) => void logged.push(params.data));
for (const method of ['notifications/tools/list_changed', 'notifications/resources/updated']) {
  on(method, async ({ params }) => {
    seen.push(method + (params?.uri ? ` ${params.uri}` : ''));
    notified.get(method)?.();
  });
}

async function until(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), 5000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const isModern = () => version(transport) >= '2026-07-28';

const plays = {
  info: async () => ({
    version: version(transport),
    server: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions(),
  }),
  ping: () => client.ping(),
  tools: () => client.listTools(),
  resources: () => client.listResources(),
  prompts: () => client.listPrompts(),
  // Version 2 gathers the pages itself.
  templates: async () => {
    const templates = [];
    let cursor;
    do {
      const page = await client.listResourceTemplates(cursor === undefined ? undefined : { cursor });
      templates.push(...page.resourceTemplates);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return templates;
  },
  // Every page of one kind.
  list: async ({ kind }) => {
    const entries = [];
    let cursor;
    do {
      const page = await client[LISTS[kind]](cursor === undefined ? undefined : { cursor });
      entries.push(...page[kind]);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return entries;
  },
  bad_cursor: () => client.listResourceTemplates({ cursor: 'no such page' }),
  call: async step => {
    logged = [];
    const progress = [];
    const params = { name: step.name, arguments: step.arguments ?? {} };
    if (step.log && isModern()) params._meta = { [LOG_LEVEL]: 'info' };
    if (step.log && !isModern()) await client.setLoggingLevel('info');
    const result = await call(params, { onprogress: step.progress ? event => progress.push(event) : undefined });
    return { result, ...(step.progress && { progress }), ...(step.log && { logged }) };
  },
  parallel: step =>
    Promise.all(step.sizes.map(bytes => call({ name: step.name, arguments: { bytes } }))),
  read: step => client.readResource({ uri: step.uri }),
  prompt: step => client.getPrompt({ name: step.name, arguments: step.arguments }),
  complete: step => client.complete({ ref: step.ref, argument: step.argument }),
  // Legacy, notifications without a request come on the GET stream; modern, on a listen.
  notified: async step => {
    const method = `notifications/${step.notification}`;
    const arrived = new Promise(resolve => notified.set(method, resolve));
    let subscription;
    if (isModern()) {
      subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: step.uri ? [step.uri] : [] });
    } else {
      await until((async () => {
        while (!statuses.GET) await new Promise(resolve => setTimeout(resolve, 10));
      })(), 'the GET stream');
      if (step.uri) await client.subscribeResource({ uri: step.uri });
    }
    await call({ name: step.trigger, arguments: {} });
    await until(arrived, method);
    await subscription?.close();
    return [...new Set(seen)];
  },
  // Steers the provider.
  provider: async step => {
    const response = await fetch(`${oauth.issuer}/control/set`, { method: 'POST', body: JSON.stringify(step.set) });
    return response.status;
  },
  // Until the server takes the client's token no more.
  expired: async () => {
    const { access_token: token } = human.tokens();
    for (let tries = 0; tries < 100; tries += 1) {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'application/json, text/event-stream',
          'content-type': 'application/json',
        },
        body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
      });
      await response.body?.cancel();
      if (response.status === 401) return { tries };
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    throw new Error('the token does not expire');
  },
  asked: () => human.asked,
  // The end of a session, and what the server says of it afterwards.
  terminate: async () => {
    const session = transport.sessionId;
    await transport.terminateSession();
    const late = await fetch(url, {
      method: 'POST',
      headers: {
        ...options.requestInit?.headers,
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
        'mcp-protocol-version': version(transport) ?? '2025-11-25',
        ...(session && { 'mcp-session-id': session }),
      },
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    });
    await late.body?.cancel();
    return { had: session !== undefined, deleted: statuses.DELETE, afterwards: session && late.status };
  },
};

const describe = error => ({
  name: error.constructor.name,
  code: error.code,
  status: error.status ?? error.data?.status,
  message: error.message,
  data: error.data,
});

const outcomes = [];
try {
  await authorized(connect, () => {
    transport = newTransport();
    return connect();
  });
  outcomes.push({ step: 'connect', ok: true });
  for (const step of JSON.parse(stepsJson)) {
    try {
      outcomes.push({ step: step.title, ok: (await authorized(() => plays[step.play](step))) ?? null });
    } catch (error) {
      outcomes.push({ step: step.title, error: describe(error) });
    }
  }
} catch (error) {
  outcomes.push({ step: 'connect', error: describe(error) });
}
await client.close().catch(() => {});
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));

// The control: the least that can be called a proxy. `naive.mjs UPSTREAM_URL` serves it as /mcp/up on a free port.
// Where it loses a check too, the suite has changed, not the gateway. PEERS_KEY, where set, is added as a bearer token,
// for clients that cannot send one.
import { createServer, request } from 'node:http';

const upstream = new URL(process.argv[2]);
const more = process.env.PEERS_KEY ? { authorization: `Bearer ${process.env.PEERS_KEY}` } : {};
const server = createServer((req, res) => {
  const path = upstream.pathname;
  const onward = request(upstream, { method: req.method, path, headers: { ...req.headers, ...more } }, answer => {
    res.writeHead(answer.statusCode, answer.rawHeaders);
    res.flushHeaders();
    answer.pipe(res);
    answer.on('error', () => res.destroy());
  });
  onward.on('error', () => (res.headersSent ? res.destroy() : res.writeHead(502).end()));
  res.on('close', () => onward.destroy());
  req.pipe(onward);
});
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));

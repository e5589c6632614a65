"""What the groups share: paths, processes that end with their test, the gateway, requests by hand, and the count of
passed and failed.

Not here: any test.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BIN = HERE / "node_modules" / ".bin"
NODE = str(BIN / "node")
PYTHON = str(HERE / "py" / "bin" / "python")
RINGGATE = os.environ.get("RINGGATE") or str(HERE.parent.parent / "target" / "release" / "ringgate")
# "naive" puts the control in the gateway's place, to try the tests themselves.
GATEWAY = os.environ.get("PEERS_GATEWAY", "ringgate")
# The fixture on the Rust SDK; `run` builds it.
RUST_SERVER = HERE.parent.parent / "target" / "debug" / "examples" / "rust-server"
START_SECONDS = 20

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "ignore",
    "NO_COLOR": "1",
}


class Tally:
    """Counts one group; a failure prints at once what was expected and what came."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()

    def check(self, what, ok, detail=""):
        with self._lock:
            if ok:
                self.passed += 1
            else:
                self.failed += 1
                print(f"FAILED {self.name}: {what}" + (f"\n    {detail}" if detail else ""), flush=True)
        return ok

    def part(self, part, *arguments):
        """Runs PART of a group; one that dies counts as failed and does not take the others with it."""
        try:
            part(self, *arguments)
        except Exception as error:
            named = [argument for argument in arguments if isinstance(argument, str)]
            place = "".join(traceback.format_tb(error.__traceback__)[-2:])
            self.check(f"{' '.join([part.__name__, *named])}: {error!r}", False, place)

    def summary(self):
        # A group that checked nothing has not passed.
        if self.passed + self.failed == 0:
            self.check("checked nothing", False)
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)


class StartError(Exception):
    pass


@contextlib.contextmanager
def process(*command, env=None, announces="listening on "):
    """Runs COMMAND until the block ends; yields the port that its first line on stdout announces."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=HERE,
            env={**ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        watchdog = threading.Timer(START_SECONDS, child.kill)
        watchdog.start()
        try:
            line = child.stdout.readline().decode(errors="replace").strip()
            watchdog.cancel()
            if not line.startswith(announces):
                child.kill()
                child.wait()
                log.seek(0)
                said = log.read().decode(errors="replace")
                raise StartError(f"{command[0]} did not start; its first line: {line!r}; its stderr: {said[-2000:]}")
            # Nobody reads on, so that a talkative child must not block on a full pipe.
            threading.Thread(target=_drain, args=(child.stdout,), daemon=True).start()
            yield int(line.rsplit(":", 1)[1])
        finally:
            watchdog.cancel()
            child.terminate()
            try:
                child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _drain(stream):
    with contextlib.suppress(ValueError, OSError):
        while stream.read(65536):
            pass


def typescript_server(era, *flags):
    return process(NODE, "fixtures/server.mjs", era, "0", *flags)


def python_server():
    return process(PYTHON, "fixtures/server.py", "0")


def rust_server():
    return process(RUST_SERVER, "0")


@contextlib.contextmanager
def six_lines():
    with process(PYTHON, "fixtures/six_lines.py", str(free_port())) as port:
        for _ in range(START_SECONDS * 20):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port


def upstream_url(port):
    return f"http://127.0.0.1:{port}/mcp"


@contextlib.contextmanager
def naive(upstream, key=None):
    with process(NODE, "naive.mjs", upstream, env={"PEERS_KEY": key} if key else None) as port:
        yield f"http://localhost:{port}/mcp/up"


def free_port():
    """A port that nothing listens on. Another process may take it; nothing here asks for a given one beside these."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def gateway(upstream, identity="{anonymous: tester}", listen="127.0.0.1:0", server=None, more=""):
    """Runs the gateway with UPSTREAM as its one server; yields its endpoint.

    SERVER holds further keys of that server, MORE further lines of the configuration.
    """
    if GATEWAY == "naive":
        with naive(upstream) as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "gateway.yaml"
        config.write_text(
            f"listen: {listen}\n"
            # A suite opens more sessions at once than one agent needs.
            "limits: [{name: handshakes, methods: [initialize], key: source, rate: 1k/s}]\n"
            "admin: {address: 127.0.0.1:0}\n"
            "workers: 1\n"
            f"identity: {identity}\n"
            f"{more}\n"
            "mcpServers:\n"
            f"  up: {json.dumps({'url': upstream, **(server or {})})}\n"
        )
        with process(RINGGATE, "run", "-c", config) as port:
            yield f"http://localhost:{port}/mcp/up"


@contextlib.contextmanager
def configured(config):
    """Runs the gateway with CONFIG, keys of the file; yields its address as a URL without a path."""
    handshakes = {"name": "handshakes", "methods": ["initialize"], "key": "source", "rate": "1k/s"}
    defaults = {
        "listen": "127.0.0.1:0",
        "limits": [handshakes],
        "admin": {"address": "127.0.0.1:0"},
        "workers": 1,
        "identity": {"anonymous": "tester"},
    }
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "gateway.yaml"
        file.write_text(json.dumps({**defaults, **config}))
        with process(RINGGATE, "run", "-c", file) as port:
            yield f"http://localhost:{port}"


def reads(server):
    """Whether this version of the gateway reads the keys of SERVER; it says so where it does not yet."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "gateway.yaml"
        config.write_text(json.dumps({"mcpServers": {"up": {"url": "http://127.0.0.1:1/mcp", **server}}}))
        return "is not available in this version" not in run(RINGGATE, "check", "-c", config, timeout=20).stderr


def provider():
    return process(NODE, "fixtures/provider.mjs")


class Recorder:
    """Passes bytes on to PORT, which may be set later, and keeps those that clients sent."""

    def __init__(self, port=None):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._sent = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    @property
    def bytes(self):
        """What came, connection after connection."""
        return b"\n".join(self._sent)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sent.append(bytearray())
                threading.Thread(target=self._pass, args=(client, server, self._sent[-1]), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, bytearray()), daemon=True).start()

    @staticmethod
    def _pass(source, sink, kept):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Answer:
    """The answer to a request by hand."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"{self.status} {self.headers.get('www-authenticate')} {self.text[:500]}"


def ask(url, body=None, headers=None):
    """GETs URL, or POSTs BODY (bytes, or what becomes JSON) to it; every status is an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            return Answer(response)
    except urllib.error.HTTPError as error:
        return Answer(error)


class Walk(urllib.request.HTTPRedirectHandler):
    """Remembers where a browser has been sent."""

    def __init__(self):
        self.last = None

    def redirect_request(self, request, *rest):
        self.last = rest[-1]
        return super().redirect_request(request, *rest)


def walk(url):
    """Follows redirects from URL as a browser does; the last one's target."""
    walked = Walk()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(), walked)
    with opener.open(url, timeout=20):
        return walked.last


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "hand", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method, name=None, arguments=None):
    """A request of 2026-07-28, and the headers that repeat it."""
    params = {"_meta": META} | ({"name": name, "arguments": arguments or {}} if name else {})
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    if name:
        headers["mcp-name"] = name
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}, headers


def call(url, tool, token=None, arguments=None):
    """Calls TOOL at URL by hand, as a client of 2026-07-28, with TOKEN as bearer."""
    body, headers = message("tools/call", tool, arguments)
    return ask(url, body, headers | ({"authorization": f"Bearer {token}"} if token else {}))


def run(*command, timeout, env=None):
    """Runs COMMAND to its end; a command that hangs is killed with its children and counts as status 124."""
    child = subprocess.Popen(
        [str(part) for part in command],
        cwd=HERE,
        env={**ENVIRONMENT, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, child.returncode, out, err)
    except subprocess.TimeoutExpired:
        _end_session(child)
        out, err = child.communicate()
        return subprocess.CompletedProcess(command, 124, out, err + f"\nkilled after {timeout} s")
    finally:
        # The suite's own timeout ends a shell and leaves what that started.
        _end_session(child)


def _end_session(child):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)

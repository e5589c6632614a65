"""What the groups share: paths, processes that end with their test, the gateway, and the count of passed and failed.

Not here: any test.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
BIN = HERE / "node_modules" / ".bin"
NODE = str(BIN / "node")
PYTHON = str(HERE / "py" / "bin" / "python")
RINGGATE = os.environ.get("RINGGATE") or str(HERE.parent.parent / "target" / "release" / "ringgate")
# "naive" puts the control in the gateway's place, to try the tests themselves.
GATEWAY = os.environ.get("PEERS_GATEWAY", "ringgate")
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


def upstream_url(port):
    return f"http://127.0.0.1:{port}/mcp"


@contextlib.contextmanager
def naive(upstream):
    with process(NODE, "naive.mjs", upstream) as port:
        yield f"http://localhost:{port}/mcp/up"


@contextlib.contextmanager
def gateway(upstream, identity="{anonymous: tester}"):
    """Runs the gateway with UPSTREAM as its one server; yields its endpoint."""
    if GATEWAY == "naive":
        with naive(upstream) as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "gateway.yaml"
        config.write_text(
            "listen: 127.0.0.1:0\n"
            # A suite opens more sessions at once than one agent needs.
            "limits: [{name: handshakes, methods: [initialize], key: source, rate: 1k/s}]\n"
            "admin: {address: 127.0.0.1:0}\n"
            "workers: 1\n"
            f"identity: {identity}\n"
            "mcpServers:\n"
            f'  up: {{url: "{upstream}"}}\n'
        )
        with process(RINGGATE, "run", "-c", config) as port:
            yield f"http://localhost:{port}/mcp/up"


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

"""Servers of the older revisions ask a client of 2026-07-28: elicitation, sampling, roots, in one round and in two.

Each round is answered at another gateway: the first runs, is restarted, and is then left for a second process that
shares only the key. So what a call needs is in its `requestState`, which nobody else can use, change or use twice.
A server that cannot resume its streams is the exception: its calls wait where they began.

Not here: what the official clients show of it (federation.py), and who may use which state where (matrix.py).
"""

import concurrent.futures
import contextlib
import time

import by_hand
import clients
import harness

KEY = "one key for all gateways of a test"
OTHER_KEY = "a key that only strangers of it have"
INVALID_STATE = (400, -32602, "invalid_request_state")
ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"
HELLO = {"prompt": "Hello?"}
THREE = "test_input_required_result_multiple_inputs"
TWICE = "test_input_required_result_multi_round"

# server, method, name, arguments, the questions of each round, what the result says
FIXTURE = [
    ("tools/call", "test_elicitation", {"message": "Who?"}, [[ELICIT]], "action=accept"),
    ("tools/call", "test_sampling", HELLO, [[SAMPLE]], "LLM response: Sampled: Hello?"),
    ("tools/call", "test_input_required_result_list_roots", {}, [[ROOTS]], "file:///peer"),
    ("tools/call", THREE, {}, [[ELICIT, ROOTS, SAMPLE]], "Sampled: Generate a greeting peer, 1 roots"),
    ("tools/call", TWICE, {}, [[ELICIT], [ELICIT]], "peer likes peer"),
    ("prompts/get", "test_input_required_result_prompt", {}, [[ELICIT]], "Use this context: peer"),
]
EVERYTHING = [
    ("tools/call", "trigger-elicitation-request", {}, [[ELICIT]], "peer"),
    ("tools/call", "trigger-sampling-request", {**HELLO, "maxTokens": 10}, [[SAMPLE]], "Sampled:"),
]
COUNTED = ("tools/call", "two_questions", {}, [[ELICIT], [ELICIT]], "peer takes peer")
CASES = [
    *(("older", *case) for case in [*FIXTURE, COUNTED]),
    *(("older_python", *case) for case in FIXTURE),
    *(("everything", *case) for case in EVERYTHING),
    # Of its own era: what it asks passes as it is.
    *(("newer", *case) for case in FIXTURE),
]


class Talk:
    """One call and its rounds, at whichever gateway."""

    def __init__(self, case, federated):
        self.server, self.method, name, arguments, self.rounds, self.shows = case
        self.path = "/mcp" if federated else f"/mcp/{self.server}"
        self.params = {"name": f"{self.server}__{name}" if federated else name, "arguments": arguments}
        self.title = f"{self.path} {self.params['name']}"
        self.replies = []

    def begin(self, origin, **how):
        self.replies.append(by_hand.modern(origin + self.path, self.method, self.params, **how))
        return self.replies[-1]

    def go_on(self, origin, index=-1, leave_out=(), **how):
        """Answers the questions of round INDEX, the last one if none is named."""
        params = by_hand.retry(self.params, self.replies[index], leave_out)
        reply = by_hand.modern(origin + self.path, self.method, params, **how)
        if index == -1:
            self.replies.append(reply)
        return reply

    def step(self, origin):
        """The next round, whichever that is; none where the last one was no question."""
        if not self.replies:
            self.begin(origin)
        elif self.replies[-1].asks:
            self.go_on(origin)

    def state(self, index=0):
        return self.replies[index].result["requestState"]


def asked(reply):
    return sorted(it["method"] for it in (reply.result or {}).get("inputRequests", {}).values()) if reply.asks else []


def of_the_call(talk):
    """The replies without the roots that server-everything asks for by itself, once it is listened to."""
    own = [ROOTS] not in talk.rounds and talk.server == "everything"
    return [it for it in talk.replies if not (own and asked(it) == [ROOTS])]


def judge(tally, talk):
    replies = of_the_call(talk)
    for index, (questions, reply) in enumerate(zip(talk.rounds, replies)):
        tally.check(f"{talk.title}: round {index + 1}", asked(reply) == questions, f"{reply}")
    last = talk.replies[-1]
    whole = len(replies) == len(talk.rounds) + 1 and talk.shows in last.said
    shown = f"{[asked(it) for it in talk.replies]} {last}"
    tally.check(f"{talk.title}: the result", whole and last.result.get("resultType") == "complete", shown)


@contextlib.contextmanager
def upstreams():
    with contextlib.ExitStack() as stack:
        start = lambda server: harness.upstream_url(stack.enter_context(server))
        yield {
            "older": {"url": start(harness.typescript_server("legacy"))},
            "older_python": {"url": start(harness.python_server()), "era": "legacy"},
            "everything": {"url": start(clients.everything())},
            "parked": {"url": start(harness.typescript_server("legacy", "--no-events"))},
            "newer": {"url": start(harness.typescript_server("modern"))},
        }


@contextlib.contextmanager
def gateway(servers, key=KEY):
    """A gateway of two workers that keeps nothing but KEY."""
    config = {"workers": 2, "state": {"sealKeys": [key]}, "mcpServers": servers}
    with harness.configured(config) as origin:
        by_hand.ready(origin, servers)
        yield origin


def all_at_once(step, talks):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(step, talks))


def control(tally, servers):
    """The same talks without a gateway, at a server that asks in this way by itself."""
    origin = servers["newer"]["url"].removesuffix("/mcp")
    talks = [Talk(("newer", *case), False) for case in FIXTURE]
    for talk in talks:
        talk.path, talk.title = "/mcp", f"direct {talk.title}"
    for _ in range(3):
        all_at_once(lambda talk: talk.step(origin), talks)
    for talk in talks:
        judge(tally, talk)


def runs(origin):
    return by_hand.modern(f"{origin}/mcp/older", "tools/call", {"name": "runs_of_two_questions", "arguments": {}}).said


def wandering(tally, servers):
    """The rounds of every talk at one gateway, at the same one restarted, and at another; and again at that one."""
    talks = [Talk(case, federated) for case in CASES for federated in (True, False)]
    with gateway(servers) as first:
        all_at_once(lambda talk: talk.step(first), talks)
    with gateway(servers) as restarted:
        all_at_once(lambda talk: talk.step(restarted), talks)
        with gateway(servers) as second:
            all_at_once(lambda talk: talk.step(second), talks)
            for talk in talks:
                judge(tally, talk)
            counted = [talk for talk in talks if "two_questions" in talk.title]
            tally.part(replay, second, counted)
            tally.part(refused, servers, second, counted[-1])


def replay(tally, origin, talks):
    """Answers that come once more run nothing once more, and nobody waits for them for ever."""
    before = runs(origin)
    tally.check("each call ran once", before == f"begun={len(talks)} ended={len(talks)}", before)
    for talk in talks:
        for index in range(len(talk.rounds)):
            started = time.monotonic()
            reply = talk.go_on(origin, index)
            took = time.monotonic() - started
            tally.check(f"{talk.title}: replay of round {index + 1} ends", took < 8, f"{took:.1f} s, {reply}")
            told = reply.error is not None or reply.asks or talk.shows in reply.said
            tally.check(f"{talk.title}: replay of round {index + 1} is told what is", told, f"{reply}")
    tally.check("a replay runs no tool", runs(origin) == before, f"{before}, then {runs(origin)}")


def forged(token, seconds):
    """TOKEN as the gateway would have made it had it ended SECONDS from now, or what went wrong."""
    done = harness.run(harness.PYTHON, "drivers/reseal.py", KEY, token, seconds, timeout=20)
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def refused(tally, servers, origin, talk):
    """Whatever is not the state that was given for this very call, and in time."""
    state = talk.state()
    session, reply = by_hand.initialize(f"{origin}/mcp/older")
    tally.check("there is a session too", session is not None, f"{reply}")
    flipped = lambda place: state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :]
    changed = {f"changed at {place}": flipped(place) for place in (0, 3, 20, len(state) // 2, len(state) - 3)}
    fresh = Talk(("older", *COUNTED), False)
    answers = by_hand.retry(talk.params, talk.replies[0])
    with gateway(servers, OTHER_KEY) as stranger:
        foreign = Talk(("older", *COUNTED), False)
        foreign.begin(stranger)
        states = {
            **changed,
            "cut": state[:-4],
            "longer": state + "AAAA",
            "empty": "",
            "nonsense": "nonsense",
            "a session": session,
            "of another key": foreign.state(),
            "expired": forged(state, "-5"),
        }
        for what, wrong in states.items():
            reply = by_hand.modern(origin + talk.path, talk.method, {**answers, "requestState": wrong})
            tally.check(f"state {what} is refused", reply.refusal == INVALID_STATE, f"{wrong!r}: {reply}")
        reply = talk.go_on(stranger, 0)
        tally.check("state at a gateway with another key is refused", reply.refusal == INVALID_STATE, f"{reply}")
    others = {
        "for other arguments": {**answers, "arguments": {"more": 1}},
        "for another tool": {**answers, "name": TWICE},
    }
    for what, params in others.items():
        reply = by_hand.modern(origin + talk.path, talk.method, params)
        tally.check(f"state {what} is refused", reply.refusal == INVALID_STATE, f"{reply}")
    # Else the expired one might have been refused for its making.
    fresh.begin(origin)
    fresh.replies[0].result["requestState"] = forged(fresh.state(), "60")
    tally.check("a state that was sealed anew, in time, is good", asked(fresh.go_on(origin)) == [ELICIT], f"{fresh.replies[-1]}")
    tally.check("and its call ends", COUNTED[-1] in fresh.go_on(origin).said, f"{fresh.replies[-1]}")


def parked(tally, servers):
    """A server without event ids: the call waits at its gateway, whichever worker gets the answer."""
    cases = [("parked", *case) for case in FIXTURE]
    talks = [Talk(case, federated) for case in cases for federated in (True, False)]
    lost = [Talk(case, True) for case in cases[:2]]
    with gateway(servers) as second:
        with gateway(servers) as first:
            all_at_once(lambda talk: talk.begin(first), [*talks, *lost])
            # Elsewhere it is known whose it is, and that the call is not here.
            for talk, reply in zip(talks, all_at_once(lambda talk: talk.go_on(second, 0), talks)):
                elsewhere = reply.refusal == (503, -33503, "upstream_unavailable")
                tally.check(f"{talk.title}: at another gateway", elsewhere, f"{reply}")
            for _ in range(2):
                all_at_once(lambda talk: talk.step(first), talks)
            for talk in talks:
                judge(tally, talk)
            reply = talks[0].go_on(first, 0)
            tally.check(f"{talks[0].title}: answered already", reply.error is not None, f"{reply}")
        with gateway(servers) as restarted:
            for talk in lost:
                reply = talk.go_on(restarted)
                gone = reply.refusal == (503, -33503, "upstream_unavailable")
                tally.check(f"{talk.title}: after a restart", gone, f"{reply}")


def one_gateway(tally, servers):
    """What needs no second one."""
    with gateway(servers) as origin:
        for server in ("older", "older_python"):
            talk = Talk((server, *next(case for case in FIXTURE if case[1] == THREE)), True)
            first = talk.begin(origin)
            keys = sorted((first.result or {}).get("inputRequests", {}))
            again = talk.go_on(origin, leave_out=keys[:1])
            same = again.asks and again.result["inputRequests"] == first.result["inputRequests"]
            tally.check(f"{talk.title}: an answer is missing", same, f"{first}\n    {again}")
            tally.check(f"{talk.title}: then all are there", talk.shows in talk.go_on(origin).said, f"{talk.replies[-1]}")
            answers = by_hand.retry(talk.params, first)
            del answers["requestState"]
            reply = by_hand.modern(origin + talk.path, talk.method, answers)
            tally.check(f"{talk.title}: answers without a state are a new call", reply.asks, f"{reply}")
            for able in ({}, {"elicitation": {"form": {}}}):
                talk = Talk((server, *next(case for case in FIXTURE if case[1] == "test_sampling")), True)
                reply = talk.begin(origin, capabilities=able)
                told = not reply.asks and (reply.error is not None or reply.result.get("isError") is True)
                tally.check(f"{talk.title}: a client that can {sorted(able)} is not asked", told, f"{reply}")


def whole(tally):
    with upstreams() as servers:
        tally.part(control, servers)
        if harness.GATEWAY == "naive":
            print("elicitation: the naive proxy bridges nothing; only the control was run")
            return
        for part in (wandering, parked, one_gateway):
            tally.part(part, servers)


def main():
    tally = harness.Tally("elicitation")
    tally.part(whole)
    tally.summary()
    return tally


if __name__ == "__main__":
    raise SystemExit(main().failed != 0)

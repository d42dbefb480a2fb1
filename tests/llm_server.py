"""A stand-in for an OpenAI-compatible endpoint, on this machine, with faults on demand.  Standard library alone.

    python tests/llm_server.py --port=8000 [--latency=0.3] [--faults=0.3] [--as=judge]

answers POST /v1/chat/completions and /v1/completions.  In a test: `with serving(reply, faults=0.3) as server:` and
server.url, server.calls (what came of each call), server.answered (how often each prompt got its reply).
"""

import argparse
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("500", "429", "html", "html_as_json", "error_200", "null_content", "no_choices", "cut", "silence")
MORE_FAULTS = ("401", "404", "400", "quota", "100kB", "closed", "not_utf8")  # each only where it is named
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections that are opened at once

    def __init__(
        self, port: int, reply: Callable, latency: float, faults: float, kinds: tuple, silence: float, seed: int
    ):
        super().__init__(("127.0.0.1", port), Handler)
        self.reply, self.latency, self.faults, self.kinds, self.silence = reply, latency, faults, kinds, silence
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.rng, self.lock, self.ended = random.Random(seed), threading.Lock(), threading.Event()
        self.calls: list[str] = []  # "ok" or the fault
        self.answered: Counter = Counter()  # by prompt
        self.keys: set = set()  # Authorization headers
        self.bodies: list[dict] = []
        self.at_once = self.most_at_once = 0

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            kind = server.rng.choice(server.kinds) if server.rng.random() < server.faults else "ok"
            server.calls.append(kind)
            server.keys.add(self.headers.get("Authorization"))
            server.bodies.append(body)
            server.at_once += 1
            server.most_at_once = max(server.at_once, server.most_at_once)
        try:
            server.ended.wait(server.silence if kind == "silence" else server.latency)
            getattr(self, f"_{kind}", self._status)(body, kind)
        finally:
            with server.lock:
                server.at_once -= 1

    def _ok(self, body: dict, kind: str):
        prompt = body.get("messages") or body["prompt"]
        text = self.server.reply(prompt)
        part = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(str(prompt)) // 4, "completion_tokens": len(text) // 4 + 1}
        self._send(200, completion([{"index": 0, "finish_reason": "stop", **part}], usage, body["model"]))
        with self.server.lock:
            self.server.answered[json.dumps(prompt)] += 1

    def _status(self, body: dict, kind: str):
        self._send(int(kind), json.dumps({"error": {"message": f"fault {kind}, {self.headers['Authorization']}"}}))

    def _429(self, body: dict, kind: str):
        self._send(429, '{"error": {"message": "slow down"}}', {"Retry-After": "70"})

    def _quota(self, body: dict, kind: str):
        self._send(429, '{"error": {"message": "no money", "code": "insufficient_quota"}}')

    def _100kB(self, body: dict, kind: str):
        self._send(500, "x" * 100_000, {"Content-Type": "text/plain"})

    def _html(self, body: dict, kind: str):
        self._send(200, PAGE, {"Content-Type": "text/html"})

    def _html_as_json(self, body: dict, kind: str):
        self._send(200, PAGE)

    def _error_200(self, body: dict, kind: str):
        self._send(200, json.dumps({"error": {"message": f"overloaded, {self.headers['Authorization']}"}}))

    def _null_content(self, body: dict, kind: str):
        self._send(200, completion([{"message": {"role": "assistant", "content": None}}], None, "m"))

    def _no_choices(self, body: dict, kind: str):
        self._send(200, completion([], None, "m"))

    def _cut(self, body: dict, kind: str):
        """Half a body; half the time its length is right, so that only its JSON tells."""
        text = completion([{"message": {"role": "assistant", "content": "CORRECT" * 20}}], None, "m")
        told = len(text) if self.server.rng.random() < 0.5 else len(text) // 2
        self._send(200, text[: len(text) // 2], {"Content-Length": str(told)})
        self.close_connection = True

    def _not_utf8(self, body: dict, kind: str):
        self._send(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')

    def _silence(self, body: dict, kind: str):
        self.close_connection = True

    _closed = _silence

    def _send(self, status: int, text: str | bytes, headers: dict | None = None):
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        known = {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
        for name, value in known.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        """Silent."""


def completion(choices: list, usage: dict | None, model: str) -> str:
    return json.dumps({"id": "x", "object": "chat.completion", "model": f"{model}-2026", "choices": choices,
                       "usage": usage}, ensure_ascii=False)  # fmt: skip


@contextmanager
def serving(
    reply: Callable = lambda prompt: "CORRECT",
    latency: float = 0.0,
    faults: float = 0.0,
    kinds: tuple = FAULTS,
    silence: float = 20.0,
    seed: int = 0,
    port: int = 0,
) -> Iterator[Server]:
    """`reply` makes a text of a prompt, messages or a text; a share of `faults` calls fails in one of `kinds`.

    `silence`: seconds before a silent call is closed.
    """
    server = Server(port, reply, latency, faults, kinds, silence, seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def judge(prompt) -> str:
    """A verdict by alias match on the JSON object in the judge's prompt: what a perfect clerk would say."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mucpt_jax.evaluation import alias

    asked = json.loads(re.search(r"^\{.*\}$", prompt[-1]["content"], re.MULTILINE)[0])
    return alias.verdict(asked, asked["answer_to_grade"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the calls")
    parser.add_argument("--as", dest="role", choices=("judge", "echo"), default="judge")
    args = parser.parse_args()
    reply = (
        judge if args.role == "judge" else lambda prompt: prompt if isinstance(prompt, str) else prompt[-1]["content"]
    )
    with serving(reply, args.latency, args.faults, port=args.port) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

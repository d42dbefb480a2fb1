"""The processes of one run wait for each other, and end together.

By itself jax waits 300 s for a process that never comes, and aborts with C++ stacks where one dies: at once where that
was process 0, after 90 s where it was another.  So each process holds a connection to process 0, from before jax starts
to its own end.  Where a connection closes without a farewell, or is silent, a process has died: process 0 tells the
others, and each ends in one sentence that names it.  No jax here.

Messages are lines of JSON:

    {"process", "of"}               a process greets process 0
    {}                              all have come; later a sign of life, every BEAT seconds
    {"process", "status", "why"}    a process ends; status 0: as it should; null: it died; why: its last line
"""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

from mucpt_jax.errors import STOPPED, TRY_AGAIN, UserError, ending, one_line
from mucpt_jax.formats.decode import Count, decoded

BEAT, SILENCE = 5, 30  # seconds: between two signs of life; without any until a process is taken for dead
GRACE = 10  # seconds for a process to end by itself where another has ended in an error, which is often its own too


class Greeting(TypedDict):
    process: Count
    of: Count


@dataclass(frozen=True)
class Peers:
    index: int
    count: int
    links: dict[int, socket.SocketIO]  # of process 0 to all others; of another process to process 0
    threads: list[threading.Thread]  # one listens to each of them
    leaving: threading.Event  # this process ends by itself
    ended: threading.Lock  # taken by the first thread that hears of an end


# Before jax starts


def gather(address: str, count: int, index: int, seconds: float) -> Peers:
    """Waits until all processes have come; `address` is process 0's HOST:PORT, which jax takes over afterwards."""
    links = wait_for_all(address, count, seconds) if index == 0 else greet(address, count, index, seconds)
    peers = Peers(index, count, links, [], threading.Event(), threading.Lock())
    peers.threads.extend(threading.Thread(target=listen, args=(peers, *link), daemon=True) for link in links.items())
    for thread in (*peers.threads, threading.Thread(target=beat, args=(peers,), daemon=True)):
        thread.start()
    return peers


def wait_for_all(address: str, count: int, seconds: float) -> dict[int, socket.SocketIO]:
    links: dict[int, socket.SocketIO] = {}
    deadline = time.monotonic() + seconds
    with listening(address) as server:
        while len(links) < count - 1 and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError, UserError):  # nobody came, or a stranger
                take(server.accept()[0], count, links)
    missing = [i for i in range(1, count) if i not in links]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise refused(
            links.values(),
            f"process {', '.join(map(str, missing[:8]))}{more} of {count} did not come to {address} in {seconds:g} s; "
            "start all processes, let their hosts reach that port, or wait longer: --config.mesh.join_seconds",
        )
    for link in links.values():
        say(link, {})
    return links


def listening(address: str) -> socket.socket:
    port, both = int(address.rpartition(":")[2]), socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        raise UserError(f"process 0 cannot listen at {address} ({one_line(error)}); name another port") from error


def take(connection: socket.socket, count: int, links: dict[int, socket.SocketIO]) -> None:
    connection.settimeout(5)
    link = connection.makefile("rwb", buffering=0)
    greeting = decoded(link.readline(200), Greeting, "what came to the port of process 0", "look who sent it")
    number = greeting["process"]
    if greeting["of"] != count or not 0 < number < count:
        refused([link], f"process {number} of {greeting['of']} came where {count} start together; give all one number")
        return
    if number in links:  # it was killed while it waited, or two have one number
        refused([links[number]], f"a later process {number} came; give each its own --process_id")
    connection.settimeout(SILENCE)
    links[number] = link


def refused(links: Iterable[socket.SocketIO], sentence: str) -> UserError:
    for link in links:
        say(link, {"process": 0, "status": 1, "why": sentence})
    return UserError(sentence)


def greet(address: str, count: int, index: int, seconds: float) -> dict[int, socket.SocketIO]:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
            break
        except OSError as error:  # refused, no route, or a name that DNS does not know yet
            if time.monotonic() > deadline:
                raise UserError(
                    f"process 0 did not answer at {address} in {seconds:g} s ({one_line(error)}); start it there, let "
                    "the hosts reach that port, or wait longer: --config.mesh.join_seconds"
                ) from error
        time.sleep(0.5)
    connection.settimeout(seconds + 5)  # process 0 may have begun to wait later
    link = connection.makefile("rwb", buffering=0)
    say(link, {"process": index, "of": count})
    answer = read(link)
    if answer is None:
        raise UserError(f"process 0 at {address} ended before all {count} processes had come; look at its log")
    if "why" in answer:
        raise UserError(answer["why"])
    connection.settimeout(SILENCE)
    return {0: link}


# Lines


def say(link: socket.SocketIO, message: dict) -> None:
    with contextlib.suppress(OSError):  # who is gone hears nothing
        link.write(json.dumps(message).encode() + b"\n")


def read(link: socket.SocketIO) -> dict | None:
    """The next message; None where the other process is gone."""
    try:
        return decoded(link.readline(), dict, "a message of another process", "")
    except (OSError, UserError):
        return None


# While the run goes on


@contextlib.contextmanager
def together(peers: Peers | None) -> Iterator[None]:
    """Around all that a process does: the others hear how it ended, and it ends where another died or failed."""
    if peers is None:
        yield
        return
    status, why = 0, ""
    try:
        yield
    except Exception as error:
        time.sleep(2)  # with a dead process a collective fails too: the thread that listens knows which
        status, why = ending(error)
        why = why or f"{type(error).__name__}: {one_line(error)}"
        atexit.register(leave, peers, status)
        raise
    except BaseException as error:  # sys.exit, or Ctrl-C
        code = error.code or 0 if isinstance(error, SystemExit) else 1
        status = 0 if code == STOPPED else code if isinstance(code, int) else 1
        why = f"{type(error).__name__}: {one_line(error)}" if status else ""
        raise
    finally:
        peers.leaving.set()
        for link in peers.links.values():
            say(link, {"process": peers.index, "status": status, "why": why})


def leave(peers: Peers, status: int) -> None:
    """Before jax's own end, which would wait for the others.  Process 0 goes last: without it jax aborts the others."""
    deadline = time.monotonic() + GRACE + 2
    for thread in peers.threads if peers.index == 0 else ():
        thread.join(max(0.0, deadline - time.monotonic()))
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(peers.index == 0)
    os._exit(status)


def beat(peers: Peers) -> None:
    while True:
        for link in peers.links.values():
            say(link, {})
        time.sleep(BEAT)


def listen(peers: Peers, number: int, link: socket.SocketIO) -> None:
    message = read(link)
    while message == {}:
        message = read(link)
    message = message or {"process": number, "status": None}
    if message.get("status") != 0 and peers.ended.acquire(blocking=False):
        end(peers, message)


def end(peers: Peers, message: dict) -> None:
    """Ends this process for the end of another one, unless it is ending by itself."""
    for link in peers.links.values() if peers.index == 0 else ():
        say(link, message)
    status, who = message["status"], f"process {message['process']} of {peers.count}"
    if peers.leaving.wait(0 if status is None else GRACE):
        return
    if status is None:
        sentence = f"{who} has died or is out of reach; start all again, they go on from the newest checkpoint"
    else:
        sentence = f"{who} has ended: {message['why'].removeprefix('error: ')}"
    time.sleep(peers.index == 0)  # it goes last
    os.write(2, f"error: {sentence}\n".encode())
    os._exit(TRY_AGAIN if status is None else status)

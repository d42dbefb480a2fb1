"""The processes of a run wait for each other and end together; here each is a process of a few lines without jax."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mucpt_jax.errors import UserError
from mucpt_jax.run import peers

ROOT = Path(__file__).parents[1]
PROCESS = """
import sys, time
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.run import peers
index, count, address, seconds, work = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
peers.GRACE = 1
with exiting(), peers.together(peers.gather(address, count, index, float(seconds))):
    print("in", flush=True)
    exec(work)
"""


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(address: str, index: int, count: int, work: str = "time.sleep(60)", seconds: float = 30) -> subprocess.Popen:
    command = [sys.executable, "-c", PROCESS, str(index), str(count), address, str(seconds), work]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def last_lines(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """(exit status, all that it said to stderr) of each."""
    ends = [process.communicate(timeout=40) for process in processes]
    return [(process.returncode, told) for process, (_, told) in zip(processes, ends, strict=True)]


@pytest.mark.parametrize("killed", [0, 2])
def test_where_a_process_dies_the_others_say_which_and_end(killed):
    address = free_address()
    running = [start(address, i, 3) for i in range(3)]
    for process in running:
        assert process.stdout.readline() == "in\n"
    began = time.monotonic()
    running[killed].send_signal(signal.SIGKILL)
    sentence = f"error: process {killed} of 3 has died or is out of reach; start all again, they go on from the newest "
    for status, told in last_lines([p for i, p in enumerate(running) if i != killed]):
        assert status == 75 and told == sentence + "checkpoint\n"
    assert time.monotonic() - began < 20


def test_a_process_that_fails_alone_takes_the_others_along_with_its_sentence_and_status():
    address = free_address()
    full = "raise OSError(28, 'No space left on device')"
    running = [start(address, 0, 3), start(address, 1, 3, full), start(address, 2, 3)]
    (zero, one, two) = last_lines(running)
    sentence = "[Errno 28] No space left on device; make room, then run it again\n"
    assert one == (74, f"error: {sentence}")
    assert zero == two == (74, f"error: process 1 of 3 has ended: {sentence}")


@pytest.mark.slow
def test_processes_that_fail_together_each_say_why_and_those_that_end_well_say_nothing():
    address = free_address()
    for work, end in (
        ("raise UserError('x=1 is wrong; use 2')", (1, "error: x=1 is wrong; use 2\n")),
        ("pass", (0, "")),
    ):
        assert last_lines([start(address, i, 2, work) for i in range(2)]) == [end, end]


@pytest.mark.slow
def test_who_never_comes_is_named_by_all_that_came():
    address = free_address()
    came = [start(address, i, 4, seconds=2) for i in (0, 2)]
    sentence = f"process 1, 3 of 4 did not come to {address} in 2 s; start all processes"
    for status, told in last_lines(came):
        assert status == 1 and sentence in told.splitlines()[-1]
    with pytest.raises(UserError, match=f"process 0 did not answer at {address} in 0 s .*refused"):
        peers.gather(address, 2, 1, 0)


def test_strangers_wrong_counts_and_doubles_do_not_come_in():
    address = free_address()
    zero = start(address, 0, 2, "time.sleep(1)")
    while True:
        try:
            with socket.create_connection(("127.0.0.1", int(address.split(":")[1]))) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            break
        except OSError:
            time.sleep(0.1)
    with pytest.raises(UserError, match="process 1 of 3 came where 2 start together"):
        peers.gather(address, 3, 1, 30)
    assert last_lines([zero, start(address, 1, 2, "time.sleep(1)")])[1] == (0, "")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match=r"cannot listen at .*in use"):
        peers.gather(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0, 1)


def test_a_process_that_is_silent_is_taken_for_dead(monkeypatch):
    ended = []
    monkeypatch.setattr(peers, "end", lambda _, message: ended.append(message))
    ours, theirs = socket.socketpair()
    ours.settimeout(0.2)
    with theirs:
        links = {3: ours.makefile("rwb", buffering=0)}
        one = peers.Peers(0, 4, links, [], peers.threading.Event(), peers.threading.Lock())
        theirs.sendall(b"{}\n")
        peers.listen(one, 3, links[3])
    assert ended == [{"process": 3, "status": None}]

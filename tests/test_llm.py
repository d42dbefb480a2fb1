"""The client against a server that fails in every way that real ones do."""

import argparse
import gc
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from llm_server import FAULTS, serving

from mucpt_jax import llm
from mucpt_jax.endpoint import call as calls
from mucpt_jax.endpoint import spent as spending
from mucpt_jax.endpoint.call import scrubbed
from mucpt_jax.errors import BUDGET_SPENT, TRY_AGAIN, UserError

KEY = "sk-proj-4f9/Zq+77&tail=ABCDEFGH"


def settings(server, **more) -> llm.Settings:
    quick = {"timeout": 0.5, "max_retry_after": 0.02}
    return llm.Settings(**({"endpoint": server.url, "model": "m"} | quick | more))


def prompts(n: int) -> list:
    return [(str(i), [{"role": "user", "content": f"question {i}"}]) for i in range(n)]


def asked(server, n=3, parse=None, again="", **more):
    """(replies by id, Spent)"""
    replies: dict[str, llm.Reply] = {}

    def done(number, reply):
        assert number not in replies
        replies[number] = reply

    return replies, llm.ask(prompts(n), settings(server, **more), done, parse, again)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_of_a_third_of_faulty_calls_none_is_lost_and_none_asked_again(tmp_path):
    cache = str(tmp_path / "replies.sqlite")
    kinds = (*FAULTS, "100kB", "closed", "not_utf8")
    with serving(
        lambda prompt: prompt[-1]["content"].upper(), latency=0.1, faults=0.35, kinds=kinds, silence=1.0
    ) as server:
        replies, spent = asked(server, 150, cache=cache)
        assert {n: r.text for n, r in replies.items()} == {str(i): f"QUESTION {i}" for i in range(150)}
        assert set(server.calls) == {"ok", *kinds}  # all were met
        assert Counter(server.answered.values()) == {1: 150}
        assert spent.answered == 150 and spent.failed == 0 and spent.calls == len(server.calls)
        again, second = asked(server, 152, cache=cache)
        assert second.cached == 150 and Counter(server.answered.values()) == {1: 152}
        assert {n: r.text for n, r in again.items() if r.cached} == {n: r.text for n, r in replies.items()}


def test_as_many_calls_as_asked_for_are_under_way():
    with serving(latency=0.1) as server:
        asked(server, 40, concurrency=7)
        assert server.most_at_once == 7


@pytest.mark.parametrize("kind", [*FAULTS, "100kB", "closed", "not_utf8", "drip"])
def test_each_fault_that_stays_ends_as_an_error_in_a_short_line(kind):
    with serving(lambda prompt: "never", faults=1.0, kinds=(kind,), silence=0.3) as server:
        replies, spent = asked(server, 1, retries=1, timeout=0.2)
        assert server.calls == [kind] * 2 and (spent.answered, spent.failed) == (0, 1)
        (reply,) = replies.values()
        assert reply.text is None and reply.error and len(reply.error) < 700 and "\n" not in reply.error


@pytest.mark.parametrize(("kind", "status", "calls"), [("401", 1, 1), ("404", 1, 1), ("quota", 1, 1), ("400", 0, 3)])
def test_what_no_retry_can_mend_is_not_retried(kind, status, calls):
    with serving(faults=1.0, kinds=(kind,)) as server:
        replies, spent = asked(server, 3, concurrency=1)
        assert len(server.calls) == calls and spent.status == status
        # A wrong key ends the run with nothing marked as failed; a refused prompt is its own error.
        assert len(replies) == (3 if kind == "400" else 0)
        assert bool(spent.stopped) == (kind != "400") and KEY not in str(spent.stopped)


def test_an_endpoint_that_is_down_ends_the_run_and_leaves_the_rest_unasked():
    with serving(faults=1.0, kinds=("500",)) as server:
        replies, spent = asked(server, 60, retries=0, concurrency=4)
        assert spent.status == TRY_AGAIN and "20 prompts in a row failed" in spent.stopped and 20 <= len(replies) < 25
        server.kinds = ("400",)  # as of a parameter that the server does not know: no use to try again
        assert asked(server, 60, concurrency=4)[1].status == 1
        url = server.url
    started = time.monotonic()
    spent = llm.ask(prompts(5), llm.Settings(url, "m", max_retry_after=0.1), lambda *_: None)
    assert spent.status == TRY_AGAIN and f"{url} cannot be used" in spent.stopped and spent.answered == 0
    assert time.monotonic() - started < 10


def test_a_reply_must_have_the_form_asked_for_or_is_asked_once_more(tmp_path):
    def number(text):
        return int(text)

    def reply(prompt):  # 0: at once; 1: after the reminder; 2: never
        text = prompt[-1]["content"]
        return "7" if "question 0" in text or ("question 1" in text and "Digits!" in text) else "it is seven"

    with serving(reply) as server:
        cache = str(tmp_path / "cache")
        replies, spent = asked(server, 3, number, "Digits!", cache=cache)
        assert [replies[n].value for n in "012"] == [7, 7, None]
        assert [replies[n].retried for n in "012"] == [False, True, True]
        assert replies["2"].text == "it is seven" and "not of the form asked for" in replies["2"].error
        assert spent.failed == 1 and len(server.calls) == 5
        replies, spent = asked(server, 3, number, "Digits!", cache=cache)
        assert [replies[n].value for n in "012"] == [7, 7, None] and spent.cached == 2
        assert len(server.calls) == 7  # 2 alone, twice


def test_the_cache_tells_models_prompts_and_parameters_apart(tmp_path):
    with serving(lambda prompt: "x") as server:
        for changed in ({}, {"model": "n"}, {"temperature": 1.0}, {"max_tokens": 9}, {"extra": {"top_p": 0.5}}, {}):
            asked(server, 1, cache=str(tmp_path / "c"), **changed)
        assert len(server.calls) == 5
        assert server.bodies[4] == {
            "model": "m", "messages": prompts(1)[0][1], "temperature": 0.0, "max_tokens": 512, "top_p": 0.5,
        }  # fmt: skip


def test_the_same_prompt_twice_is_asked_once_and_null_takes_a_parameter_away():
    with serving(lambda prompt: "x", latency=0.05) as server:
        same, replies = [("a", "once upon"), ("b", "once upon")], {}
        llm.ask(same, settings(server, extra={"temperature": None}), replies.__setitem__)
        assert {n: (r.text, r.cached) for n, r in replies.items()} == {"a": ("x", False), "b": ("x", True)}
        assert server.bodies == [{"model": "m", "prompt": "once upon", "max_tokens": 512}]  # a text: /completions


def test_several_processes_share_a_cache(tmp_path):
    code = (
        "import sys; from mucpt_jax.endpoint import replies\n"
        "kept = dict(text='t', prompt_tokens=1, completion_tokens=1, ended=True, retried=False, served=None)\n"
        "with replies.opened(sys.argv[1]) as cache:\n"
        "    for i in range(200): replies.keep(cache, f'{sys.argv[2]}-{i}', kept)"
    )
    path, root = str(tmp_path / "shared"), Path(__file__).parents[1]
    running = [subprocess.Popen([sys.executable, "-c", code, path, str(i)], cwd=root) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    with sqlite3.connect(path) as cache:
        assert cache.execute("SELECT count(*) FROM replies").fetchone() == (600,)


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    (tmp_path / "c").write_text("not a database, by far not a database" * 100)
    with serving() as server, pytest.raises(UserError, match=r"cannot be used .*name another file, or move it away"):
        asked(server, 1, cache=str(tmp_path / "c"))


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(tmp_path):
    cache = str(tmp_path / "c")
    # A prompt has 13 tokens by the server and a reply 2; the most it can cost is 100 + its bytes, and 10.
    prices = {"price_in": 1e6, "price_out": 1e6, "max_tokens": 10, "concurrency": 4, "cache": cache}
    with serving(lambda prompt: "done") as server:
        replies, first = asked(server, 40, budget=500.0, **prices)
        assert 0 < len(replies) < 40 and first.cost <= 500 and first.status == BUDGET_SPENT
        assert first.cost == first.prompt_tokens + first.completion_tokens
        assert "budget=500 is spent" in first.stopped
        rest, second = asked(server, 40, budget=5000.0, **prices)
        assert len(rest) == 40 and second.cached == len(replies) and not second.stopped
        assert Counter(server.answered.values()) == {1: 40}


def test_calls_under_way_count_with_the_most_they_can_cost():
    with serving(lambda prompt: "done", latency=0.05) as server:  # 2 tokens
        _, spent = asked(server, 9, budget=7.0, price_out=1e6, max_tokens=2, concurrency=4)
    assert (spent.cost, spent.calls) == (6, 3)  # four at once would be 8


def test_calls_of_unknown_cost_count_as_the_most_they_can_be():
    with serving(faults=1.0, kinds=("silence",), silence=0.3) as server:
        _, spent = asked(server, 1, timeout=0.1, retries=2, price_in=1e6, price_out=0.0, budget=1e4)
    size = len(json.dumps(prompts(1)[0][1])) + 100
    assert (spent.unmetered, spent.cost) == (3, 3 * size)
    assert llm.summary(spent).endswith(f"cost {3 * size} (at most: 3 calls did not say)")


def test_max_calls_counts_retries_too():
    with serving(faults=0.5, kinds=("500",)) as server:
        replies, spent = asked(server, 40, max_calls=17, concurrency=3)
        assert len(server.calls) == 17 and spent.status == BUDGET_SPENT and "max_calls=17" in spent.stopped
        assert len(replies) == server.calls.count("ok")


def test_a_wish_to_wait_is_followed_up_to_the_longest_pause():
    for value, seconds in {
        "70": 70,
        "0.5": 0.5,
        "-3": 0,
        "nan": None,
        "soon": None,
        "": None,
        "inf": float("inf"),
    }.items():
        assert calls.retry_after(value) == seconds
    assert 55 < calls.retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert all(10 <= llm.pause(1, 70.0, longest=10) <= 10.5 for _ in range(20))
    assert all(0 <= llm.pause(1, 0.0, longest=10) <= 0.5 for _ in range(20))
    assert all(2 <= llm.pause(4, None, longest=10) <= 4 for _ in range(20))  # 0.5, 1, 2, 4 and 8, halved by chance
    assert all(5 <= llm.pause(9, None, longest=10) <= 10 for _ in range(20))


def test_a_key_appears_in_no_text_that_leaves(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    urls = urllib.parse.quote(KEY, safe=""), "".join(f"%{ord(c):02x}" for c in KEY)
    echoes = [f"Bearer {KEY}", *urls, json.dumps(KEY).replace("/", "\\/"), KEY.replace("&", "&amp;"), KEY[:15]]
    for kind in ("401", "500", "error_200", "400"):
        with serving(faults=1.0, kinds=(kind,)) as server:
            assert f"Bearer {KEY}" not in str(asked(server, 2, retries=1))
            assert server.keys == {f"Bearer {KEY}"}
    with serving(lambda prompt: " ".join(echoes)) as server:
        replies, _ = asked(server, 1, cache=str(tmp_path / "c"))
    assert replies["0"].text.count("[key]") == len(echoes)
    left = [*caplog.messages, *capfd.readouterr(), str(replies), (tmp_path / "c").read_bytes().decode("latin-1")]
    left += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    for form in (KEY[:12], *(url[:20] for url in urls)):
        assert not [text for text in left if form in text]
    for length in range(120, 200):  # where the message is cut, half a key may stand
        outcomes = (
            calls.failure(ValueError("x" * length + KEY), KEY, 1.0),
            calls.read(b"x" * length + KEY.encode(), KEY),
        )
        assert not [outcome for outcome in outcomes if KEY[:3] in outcome.text]
    assert scrubbed("a test of none", "none") == "a test of none"  # no secret


def test_keys_and_urls_that_cannot_be_are_refused_without_naming_the_key(monkeypatch):
    for url in (
        "host/v1",
        "ftp://host",
        f"https://user:{KEY}@host/v1",
        f"https://host/v1?api-key={KEY}",
        "https:///v1",
    ):
        with pytest.raises(UserError, match="must be a URL as https://host/v1") as refused:
            llm.ask([], llm.Settings(url, "m"), print)
        assert KEY not in str(refused.value)
    monkeypatch.setenv("OTHER", "sk-two\nlines")
    with pytest.raises(UserError, match=r"the key in \$OTHER holds characters that no key has") as refused:
        llm.ask([], llm.Settings("http://host/v1", "m", key_env="OTHER"), print)
    assert "two" not in str(refused.value)


def test_options_become_settings_and_bad_ones_a_sentence():
    parser = argparse.ArgumentParser()
    llm.add_options(parser)

    def of(*flags):
        return llm.settings_of(parser.parse_args(flags))

    assert of() is None
    at = ["--endpoint=http://h/v1", "--model=m"]
    assert of(*at) == llm.Settings("http://h/v1", "m")
    assert of(*at, "--budget=2", "--price_in=0.5", '--extra={"a": 1}').extra == {"a": 1}
    for flags, words in {
        ("--endpoint=http://h/v1",): "needs --model=NAME",
        ("--model=m",): "--model=m needs --endpoint=URL",
        (*at, "--concurrency=0"): "concurrency=0 must be",
        (*at, "--timeout=nan"): "timeout=nan must be",
        (*at, "--budget=2"): "needs price_in and price_out",
        (*at, "--extra=[1]"): "--extra is damaged or of another kind",
    }.items():
        with pytest.raises(UserError, match=words):
            of(*flags)


def test_a_limit_of_the_rate_loses_no_prompt_while_others_are_answered():
    with serving() as server:
        server.every = 0.02
        _, spent = asked(server, 60, retries=1)
        assert spent.answered == 60 and server.calls.count("limit") > 100
        server.every = 1000.0  # none is answered: the retries are bounded
        assert asked(server, 2, retries=1)[1].failed == 2


def test_an_interruption_ends_the_run_as_a_stop_and_leaves_no_call_behind(caplog):
    def interrupted(number, reply):
        signal.raise_signal(signal.SIGINT)  # Ctrl-C, which asyncio takes

    with serving() as server:
        spent = llm.ask(prompts(40), settings(server), interrupted)
    assert (spent.stopped, spent.status) == ("interrupted", 130)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_progress_tells_how_long_it_will_take():
    spent = llm.Spent(answered=60, cached=50, failed=0, calls=12)
    assert spending.so_far(spent, 100, seconds=5.0) == "60 of 100, 20 s to go"  # 10 in 5 s, 40 are left
    assert spending.so_far(spent, None, seconds=5.0) == "60 prompts"
    assert llm.summary(spent) == "12 calls, 50 cached, 0 failed, 0 + 0 tokens"


def test_an_error_of_the_receiver_ends_the_run():
    def full(number, reply):
        raise OSError(28, "No space left on device")

    with serving() as server, pytest.raises(OSError, match="No space"):
        llm.ask(prompts(40), settings(server), full)


def test_the_client_is_loaded_where_it_is_used_alone():
    code = "import sys; from mucpt_jax import llm; print({'openai', 'httpx', 'jax', 'rich'} & set(sys.modules))"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"

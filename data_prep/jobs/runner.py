"""Running a Beam pipeline, in this process or with workers, to its counters; what a task raised as its cause."""

import queue
import re
import threading
from collections.abc import Callable
from contextlib import suppress

import apache_beam as beam
import psutil
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from mucpt_jax.errors import UserError, one_line

MORE = ("masked", "lines", "changed")  # counters besides documents: {type: hits}, {reason: lines}, {what: documents}


def options_of(beam_args: list[str]) -> PipelineOptions:
    options = PipelineOptions(["--runner=FnApiRunner", *beam_args])  # the last --runner counts
    if nameless := [word for word in beam_args if word.partition("=")[0] in ("-", "--")]:
        raise UserError(f"{nameless[0]!r} is no flag; see --help")
    unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    if unknown:
        raise UserError(f"neither this job nor Apache Beam knows --{min(unknown)}; see --help")
    return options


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:  # no such runner, not installed, flags missing
        raise UserError(f"Apache Beam cannot start here ({one_line(error)}); check --runner and its flags") from error


def run_pipeline(build: Callable[[beam.Pipeline], object], beam_args: list[str]) -> dict[str, dict[str, int]]:
    """Builds and runs a pipeline; returns its counters as {"documents": {name: n}, "dropped": {reason: n}, ...}."""
    options = options_of(beam_args)
    pipeline = make_pipeline(options)
    build(pipeline)
    local_workers = options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    try:
        result = (run_with_workers if local_workers else run_here)(pipeline)
    except (UserError, RuntimeError) as error:
        raise cause_of(error) from None
    counters: dict[str, dict[str, int]] = {name: {} for name in ("documents", "dropped", *MORE)}
    for counter in result.metrics().query(MetricsFilter().with_namespaces(list(counters)))["counters"]:
        names, name = counters[counter.key.metric.namespace], counter.key.metric.name
        names[name] = names.get(name, 0) + counter.result
    return counters


def run_here(pipeline: beam.Pipeline):
    """In the main thread: that of a Flink or Spark cluster asks for signals."""
    result = pipeline.run()
    result.wait_until_finish()
    return result


def run_with_workers(pipeline: beam.Pipeline):
    """As run_here, with worker processes of this machine; UserError where one was killed.

    Beam waits for a killed worker for ever, so it waits in a thread of its own, which is then left behind.
    """
    ended: queue.SimpleQueue = queue.SimpleQueue()
    hook_before = threading.excepthook

    def run() -> None:
        try:
            ended.put(run_here(pipeline))
        except BaseException as error:
            ended.put(error)

    def hook(args) -> None:
        if "Worker subprocess exited" in str(args.exc_value):
            ended.put(UserError(f"a worker process was killed ({args.exc_value}), as a rule for want of memory; "
                                "start it again with fewer --direct_num_workers"))  # fmt: skip
        else:
            hook_before(args)

    threading.excepthook = hook
    threading.Thread(target=run, daemon=True).start()
    try:
        result = ended.get()
        if isinstance(result, BaseException):
            raise result
        return result
    finally:
        kill_workers()
        threading.excepthook = hook_before


def kill_workers() -> None:
    """Those that Beam's local runner has started for this process and that have not ended by themselves."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended meanwhile
            if any("sdk_worker_main" in word for word in child.cmdline()):
                child.kill()
    for thread in threading.enumerate():
        if thread.name == "run_worker":  # which waits for one of them
            thread.join(10)


def cause_of(error: Exception) -> Exception:
    """What a task raised: UserError and OSError come wrapped, stack and all, in a RuntimeError or with a postscript."""
    text = re.sub(r" \[while running .*", "", str(error))
    if isinstance(error, UserError):
        return UserError(text)
    if sentences := re.findall(r"UserError: (.+)", text):
        return UserError(sentences[0])
    if system := re.findall(r"\[Errno (\d+)\] (.+)", text):
        return OSError(int(system[-1][0]), system[-1][1])
    return error

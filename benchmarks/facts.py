"""What the benchmarks share: where and with what they were measured, medians, result files, tables."""

import datetime
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

from mucpt_jax.formats.files import write_json
from mucpt_jax.run import runtime

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "torch", "transformers")


def write(name: str, what: str, rows: list[dict]) -> None:
    """Writes results/NAME.json and prints its table."""
    result = {
        "what": what,
        "machine": machine(),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)
    print(f"{what}\n{result['machine']}\n")
    print("\n".join(table(rows)))
    print(f"\nbenchmarks/results/{name}.json; python -m benchmarks.docs brings it into docs/benchmarks.md")


def machine() -> str:
    """The accelerators where jax has some, and the processor with the cores this process may use."""
    import jax  # here: --help and docs.py need no jax

    from demo.results import cpu_name

    devices = [] if jax.default_backend() == "cpu" else jax.devices()
    named = [f"{len(devices)} x {devices[0].device_kind}"] if devices else []
    return ", ".join([*named, f"{cpu_name()}, {cores()} cores"])


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def alternate(contestants: dict[str, Callable[[], float]], rounds: int, warmup: int = 1) -> dict[str, list]:
    """Calls every contestant twice a round and counts the second call, as steps follow steps in a run.

    In turn, so that what else the machine does falls on all alike.
    Another one begins each round: A B C, B C A, C A B, ... so that none always runs behind the same one.
    A contestant returns the seconds of one step.  The warm-up rounds (compilation, caches) are not returned.
    """
    seconds = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(warmup + rounds):
        first = turn % len(names) if names else 0
        for name in names[first:] + names[:first]:
            contestants[name]()  # behind another one's step caches are cold and freed memory is gone: not counted
            seconds[name].append(contestants[name]())
    return {name: values[warmup:] for name, values in seconds.items()}


def median(values: list[float]) -> float:
    return statistics.median(values)


def table(rows: list[dict]) -> list[str]:
    """Rows -> a Markdown table; the columns are the rows' keys in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns] + [[cell(row.get(key)) for key in columns] for row in rows]
    lines[0] = [name.replace("_", " ") for name in columns]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(columns))]
    padded = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    padded.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in padded]


def cell(value) -> str:
    """Three significant digits; whole numbers from 1000 on with separators."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={inner}" for key, inner in value.items())
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def use(device: str) -> None:
    """Refuses a run whose device is not there, keeps the CPU's figures off the accelerators, sets launch.py's flags."""
    print(runtime.set_xla_flags())
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != device:
        raise SystemExit(f"error: --device={device} but jax has {jax.devices()[0].device_kind}; install jax for it")

"""Commands that a Markdown text shows, and whether the program that each names would accept it.

A command is a line of an indented or fenced block, or inline code, that begins with python, make or pip; a comment
(# or two spaces) may stand behind it.  Variables and `for` loops are expanded as a shell would; [--option] is an
option; ... stands for flags that the text leaves out, which it must say.  Nothing is read or written: programs stop
behind their parsers.
"""

import argparse
import contextlib
import copy
import importlib.util
import io
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from unittest import mock

from absl import flags
from ml_collections import config_flags
from packaging.requirements import Requirement

from data_prep.jobs import runner
from mucpt_jax import checks
from mucpt_jax.errors import UserError

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"sglang.launch_server"}  # of other packages that are not installed here
LEFT_OUT = "`...` stands for"
FIRST = r"(?:python|make|pip)\s"
INLINE = re.compile(rf"`({FIRST}[^`]+)`")
INSIDE = re.compile(rf"""["'](?:cd \w+ && )?({FIRST}.*)["']$""", re.S)  # sbatch --wrap '...'


class Wrong(Exception):
    """Why a command would not be accepted."""


class Accepted(BaseException):
    """Raised behind a program's parser; nothing catches it on the way."""


def commands(text: str) -> list[list[str]]:
    """All commands, as words."""
    blocks = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    code, variables, loop = [], {}, ("", [""])
    fenced = False
    for line in blocks:
        fenced ^= line.startswith("```")
        if not (fenced or line.startswith("    ")):
            code += [named_or_whole(words_of(span, variables)) for span in INLINE.findall(line)]
            variables, loop = ({}, ("", [""])) if line.strip() else (variables, loop)
            continue
        line = line.strip().removeprefix("$ ").removeprefix("- run: ")
        if name := re.match(r"(\w+)=(\S+)$", line):
            variables[name[1]] = name[2]
        elif name := re.match(r"for (\w+) in (.+); do$", line):
            loop = name[1], name[2].split()
        elif line == "done":
            loop = "", [""]
        elif command := line if re.match(FIRST, line) else (INSIDE.search(line) or ["", ""])[1]:
            code += [words_of(command, variables | {loop[0]: value}) for value in loop[1]]
        elif "docs/slurm.sh " in line and line.startswith("sbatch"):
            code.append(words_of(f"python launch.py {line.partition('docs/slurm.sh ')[2]}", variables))
    return code


def named_or_whole(words: list[str]) -> list[str]:
    """A program that a sentence names without its flags is only looked up."""
    return [*words, "--help"] if words[:2] == ["python", "-m"] and len(words) == 3 else words


def words_of(command: str, variables: dict[str, str]) -> list[str]:
    command = re.split(r" {2,}|\s&&\s", command)[0]
    command = re.sub(r"\[(-[^\]]*)\]", r"\1", command)
    command = re.sub(r"\$\{?(\w+)\}?", lambda name: variables.get(name[1], "1"), command)
    return shlex.split(command, comments=True)


def check(words: list[str], text: str = "") -> None:
    """Raises Wrong."""
    if any("..." in word for word in words) and LEFT_OUT not in text:
        raise Wrong(f"... is not explained; write what {LEFT_OUT}")
    filled, words = "..." in words, [word.replace("...", "X") for word in words if word != "..."]
    program, *rest = words
    if program == "make":
        check_make(rest)
    elif program == "pip":
        check_pip(rest)
    elif rest[0] == "launch.py" or rest[:2] == ["-m", "launch"]:
        check_launch(rest[1 if rest[0] == "launch.py" else 2 :])
    elif rest[0] == "-m":
        check_module(rest[1].replace("NAME", "clean"), rest[2:], filled)
    else:
        raise Wrong(f"python {rest[0]} is neither launch.py nor a module")


def check_make(words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    known = re.findall(r"^(\w+):", text, re.M), re.findall(r"^(\w+) \?=", text, re.M)
    for word in words:
        name, is_variable = word.partition("=")[0], "=" in word
        if name not in known[is_variable]:
            raise Wrong(f"the Makefile has no {'variable' if is_variable else 'target'} {name}")


def check_pip(words: list[str]) -> None:
    if words[0] != "install":
        raise Wrong(f"pip {words[0]} is not looked at here")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    for word in (word for word in words[1:] if word not in ("-e", "-r", "--no-cache-dir")):
        if own := re.fullmatch(r"\.(?:\[([\w,]+)\])?", word):
            if unknown := set((own[1] or "").split(",")) - {""} - extras.keys():
                raise Wrong(f"pyproject.toml has no extra {min(unknown)}")
        elif word.endswith(".txt"):
            if not (ROOT / word).is_file():
                raise Wrong(f"{word} does not exist")
        else:
            Requirement(word)


def check_launch(argv: list[str]) -> None:
    """As launch.py does before it looks for devices: flags, keys, config, checks."""
    import launch

    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["", *argv])
    for flag in flags.FLAGS.get_flags_for_module(launch):
        if flag.name != "config" and "config" not in flag.name:
            values[flag.name] = copy.deepcopy(flag)
    try:
        checks.check_overrides(argv)
        if left := values(["", *argv])[1:]:
            raise Wrong(f"launch.py has no use for {left}")
        checks.build(values.config)
    except (flags.Error, UserError, AttributeError, OSError) as error:
        raise Wrong(str(error)) from error


def check_module(module: str, argv: list[str], filled: bool) -> None:
    """Runs the module up to the end of its parsing; what it would pass on to Beam, Beam must know."""
    if module == "pytest":
        if missing := [word for word in argv if not (ROOT / word).exists()]:
            raise Wrong(f"{missing} does not exist")
        return
    if module in ELSEWHERE:
        return
    if module == "mucpt_jax.harness":  # a device job with flags of its own
        from mucpt_jax.harness import FLAGS

        return check_launch([word for word in argv if word.lstrip("-").partition("=")[0] not in FLAGS])
    if importlib.util.find_spec(module) is None:
        raise Wrong(f"there is no module {module}")
    rest, error = [], io.StringIO()
    parse_args, parse_known_args = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args

    def stop_behind(parser, *arguments, **named):
        parse_args(parser, *arguments, **named)
        raise Accepted

    def note_the_rest(parser, *arguments, **named):
        values, unknown = parse_known_args(parser, *arguments, **named)
        rest[:] = unknown
        if module.startswith("apache_beam."):  # reads nothing behind it
            raise Accepted
        return values, unknown

    if filled:  # what every job of data_prep needs
        argv = ["--input=X", "--output=X", *argv]
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop_behind),
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", note_the_rest),
        mock.patch.object(sys, "argv", [module, *argv]),
        contextlib.redirect_stderr(error),
        contextlib.redirect_stdout(error),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except Accepted:
            pass
        except SystemExit as end:
            if end.code and not str(end.code).startswith("error: --input="):  # read behind all flags, and not there
                raise Wrong(f"{end.code if isinstance(end.code, str) else error.getvalue().strip()}") from end
    try:
        runner.options_of([word for word in rest if not word.startswith("--config")])
    except UserError as unknown:
        raise Wrong(str(unknown)) from unknown

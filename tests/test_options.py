"""Options: one dataclass gives flags, their help, and the section of a recipe."""

import argparse
from dataclasses import dataclass

import pytest

from data_prep.jobs import options
from data_prep.jobs.options import option
from mucpt_jax.errors import UserError


@dataclass(frozen=True)
class Soup:
    salt: float = option(0.5, "100% of taste")
    spoons: int = option(0, "spoons that are set out", bare=4)
    cold: bool = option(False, "serve it cold")
    herbs: tuple[str, ...] = option((), "what is strewn over it")
    name: str = option("borscht", "on the menu")


def of(*argv: str) -> Soup:
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Soup, needed="name")
    return options.of_flags(Soup, parser.parse_args(["--name=schi", *argv]))


def test_flags_are_of_the_types_of_the_defaults():
    assert of() == Soup(0.5, 0, False, (), "schi")
    assert of("--salt=1", "--spoons", "--cold", "--herbs=dill, leek", "--herbs=mint") == Soup(
        1.0, 4, True, ("dill", "leek", "mint"), "schi"
    )
    assert of("--spoons=7").spoons == 7
    with pytest.raises(SystemExit):
        of("--salt=much")


def test_help_tells_meaning_and_default_and_what_is_needed_must_be_given(capsys):
    with pytest.raises(SystemExit):
        of("--help")
    told = capsys.readouterr().out
    assert "100% of taste (default 0.5)" in told and "strewn over it (default none)" in told and "--name NAME" in told
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Soup, needed="name")
    with pytest.raises(SystemExit):
        parser.parse_args([])


def test_a_section_gives_the_same_options_and_leaves_defaults():
    assert options.of_section(Soup, options.section_of(Soup), "config.soup") == Soup()
    assert options.of_section(Soup, {"salt": 1, "herbs": ["dill", "leek"], "name": None}, "config.soup") == Soup(
        salt=1.0, herbs=("dill", "leek")
    )


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"slat": 1.0}, r"^config\.soup\.slat is none of its keys.* did you mean salt\?$"),
        ({"spoons": 1.5}, r"^config\.soup\.spoons=1\.5 is no int"), ({"cold": "yes"}, "is no bool"),
        ({"spoons": True}, "is no int"), ({"herbs": 3}, "is no tuple"), ({"salt": "x"}, "is no float"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value_is_a_sentence(section, told):
    with pytest.raises(UserError, match=told):
        options.of_section(Soup, section, "config.soup")

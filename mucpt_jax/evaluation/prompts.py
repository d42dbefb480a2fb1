"""How a question is put to a model, and where its answer ends.  All of it is recorded with the answers.

prompt     evaluate.prompt with the question in it, which the model continues
few_shot   five questions with their answers, then the question; in its language: base models
chat       a request for the answer alone, as a message in the folder's chat template: instruct models
"""

import re
from pathlib import Path
from typing import Any, TypedDict

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.evaluation import alias
from mucpt_jax.formats.checksums import check_sums, present
from mucpt_jax.formats.decode import decoded, read_json

# Of no field that a set of music questions asks about; their answers are of the kinds such sets have.
SHOTS = {
    "zh": (
        ("《蒙娜丽莎》是哪位画家的作品？", "达·芬奇"),
        ("人类第一次登上月球是在哪一年？", "1969年"),
        ("澳大利亚的首都是哪座城市？", "堪培拉"),
        ("哪部西班牙小说的主人公与风车搏斗？", "《堂吉诃德》"),
        ("章鱼有多少条腕？", "8"),
    ),
    "en": (
        ("Who painted the Mona Lisa?", "Leonardo da Vinci"),
        ("In which year did people first land on the Moon?", "1969"),
        ("What is the capital of Australia?", "Canberra"),
        ("In which Spanish novel does the hero fight windmills?", "Don Quixote"),
        ("How many arms does an octopus have?", "8"),
    ),
}
FORMS = {"zh": "问题：{question}\n答案：", "en": "Question: {question}\nAnswer:"}
REQUESTS = {
    "zh": "请回答下面的问题，只写答案，不要解释。\n问题：{question}",
    "en": "Answer the question below: write the answer alone, without an explanation.\nQuestion: {question}",
}
STOP = {"prompt": "\n", "few_shot": "\n", "chat": ""}  # a chat's answer may have several lines


def language(question: dict) -> str:
    """zh or en: the question's own field, else by its letters."""
    known = question.get("lang")
    return known if known in FORMS else "zh" if re.search("[\u4e00-\u9fff]", question["question"]) else "en"


def text_of(question: dict, style: str, prompt: str) -> str:
    """What the model continues; in style chat, the message that it answers."""
    lang = language(question)
    form = {"prompt": prompt, "few_shot": few_shot(lang), "chat": REQUESTS[lang]}[style]
    return form.replace("{question}", question["question"])


def few_shot(lang: str) -> str:
    """The shots, then the form of the question, which still has {question} in it."""
    gap = " " if lang == "en" else ""
    shots = [f"{FORMS[lang].replace('{question}', q)}{gap}{answer}\n\n" for q, answer in SHOTS[lang]]
    return "".join(shots) + FORMS[lang]


def check_shots(questions: list[dict], style: str) -> None:
    """The set must not hold a shot: its answer would stand in the prompt."""
    shots = {alias.normalise(q) for of_lang in SHOTS.values() for q, _ in of_lang} if style == "few_shot" else set()
    for question in questions:
        if alias.normalise(question["question"]) in shots:
            raise UserError(
                f"question {question['id']} ({question['question']}) is one of the five shots of style few_shot; take "
                "it out of the file, or choose another style"
            )


def stop_of(stop: str | None, style: str) -> str:
    """evaluate.stop, or the default of the style."""
    return STOP[style] if stop is None else stop


def stops(stop: str | None, style: str) -> tuple[str, ...]:
    r"""The texts of evaluate.stop: one, or a JSON list such as ["\n", "Q:"]."""
    stop = stop_of(stop, style)
    if is_list(stop):
        texts = decoded(stop, list[str], "evaluate.stop", r'write one text, or a JSON list of texts: ["\n", "Q:"]')
        return tuple(filter(None, texts))
    return (stop,) if stop else ()


def is_list(stop: str) -> bool:
    """Meant as one: a text may begin with a bracket, too."""
    return re.match(r"""\[\s*["'\]]""", stop) is not None


def cut(text: str, ends: tuple[str, ...]) -> str:
    """Up to the first of the texts `ends`; blanks in front do not count as an answer."""
    text = text.lstrip()
    return text[: min([text.find(end) for end in ends if end in text], default=len(text))].strip()


def is_cut(text: str, ends: tuple[str, ...]) -> bool:
    return any(end in text.lstrip() for end in ends)


def described(style: str, prompt: str, stop: str | None) -> dict[str, Any]:
    """What answers.json says of it."""
    texts: dict[str, Any] = {"prompt": prompt} if style == "prompt" else {"request": REQUESTS}
    if style == "few_shot":
        texts = {"shots": SHOTS, "form": FORMS}
    return {"style": style, **texts, "stop": stop_of(stop, style)}


class Settings(TypedDict, total=False):
    """tokenizer_config.json"""

    chat_template: str | list[dict[str, str]] | None


def chat_template(folders: list[str], way_out: str) -> str:
    """Of the first folder that has one: chat_template.jinja, or in tokenizer_config.json."""
    for folder in map(Path, folders):
        check_sums(folder, present(folder, "chat_template.jinja", "tokenizer_config.json"))
        if (own := folder / "chat_template.jinja").is_file():
            return parsed(own.read_text(encoding="utf-8"), folder)
        path = folder / "tokenizer_config.json"
        known = read_json(path, Settings).get("chat_template") if path.is_file() else None
        named = known if isinstance(known, list) else [{"name": "default", "template": known or ""}]
        template = next((one.get("template", "") for one in named if one.get("name") == "default"), "")
        if template:
            return parsed(template, folder)
    raise UserError(
        f"{' and '.join(folders)} has no chat template, neither chat_template.jinja nor chat_template in "
        f"tokenizer_config.json; name an instruct model's folder with --config.tokenizer, or {way_out}"
    )


def parsed(template: str, folder: Path) -> str:
    """The template, if it can be used at all: found out before hours of answering."""
    import jinja2  # the checks of a config load this module, also where no template is needed

    try:
        jinja2.Environment().parse(template)
    except jinja2.TemplateError as error:
        raise UserError(f"the chat template in {folder} cannot be read ({error}); copy it again") from error
    return template


def in_template(text: str, tokenizer, template: str) -> str:
    """The text as a user's message, up to where the model's answer begins."""
    message = [{"role": "user", "content": text}]
    try:
        return tokenizer.apply_chat_template(
            message, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # the template is the folder's: it raises what it likes
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} cannot be used ({one_line(error)}); copy the folder again"
        ) from error

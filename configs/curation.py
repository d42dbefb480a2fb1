"""The recipe from raw text to rows, for data_prep.pipeline.

    python -m data_prep.pipeline --input=RAW --output=OUT --config.shard.tokenizer=/models/Qwen2.5-1.5B

A section holds the flags of the job of its name; `python -m data_prep.NAME --help` has them all.  `:plain` leaves out
what judges text: it cleans, drops exact duplicates and packs rows.
"""

from ml_collections import ConfigDict


def get_config(argument: str = "") -> ConfigDict:
    config = ConfigDict()
    # In this order; any may be left out.
    config.stages = "clean,boilerplate,quality,dedup,decontaminate,mask,shard"
    config.clean = dict(
        min_chars=20,  # shorter documents go
        languages="en,zh-Hans,zh-Hant",  # others go, and paragraphs in others; "" keeps all
        simplify=False,  # traditional Chinese to simplified
    )
    config.boilerplate = dict(
        min_documents=20,  # a line goes where it stands in so many documents of its source
        min_share=0.02,  # and in this share of them
        min_letters=30,  # of a line of plain text; a Chinese character counts two
    )
    # A document that breaks a rule goes under its name.  Shares are 0 to 1; a Chinese character is a word.
    config.quality = dict(
        min_words=10, max_words=1_000_000,
        min_word_length=2.5, max_word_length=10.0,  # mean letters of a word; not of Chinese
        min_stop_words=0.06,  # the, of, und, que, ... to a word
        min_stop_words_zh=0.026,  # 的, 是, 與, ... to a word
        max_spam_words=0.06,  # share of words in pairs that adverts are made of
        min_alphabetic=0.35,  # share of words that begin with a letter
        max_digits=0.4, max_symbols=0.4, max_braces=0.026, max_urls=0.65,  # shares of characters
        max_bullet_lines=0.9, max_ellipsis_lines=0.3,  # shares of lines
        max_hashes=0.1,  # # and ellipses to a word
        max_lines=0.4,  # lines to a word
        max_dup_lines=0.55, max_dup_5gram=0.7, max_dup_10gram=0.55,  # shares of lines and words that stood before
        max_top_2gram=0.3, max_top_4gram=0.3,  # shares of words that repeat the commonest pair, the commonest four
        min_quality=0.0,  # of the score from 0 to 1; above .25 verse begins to go
    )  # fmt: skip
    config.dedup = dict(
        similarity=0.8,  # least Jaccard similarity of near-duplicates; 0: exact ones only
        sources="",  # of equals, those of the source named first stay
        against="",  # outputs of earlier runs: what is near them goes
        signatures=True,  # write what a later run needs for `against`
        paragraphs=0,  # paragraphs of so many characters that stood elsewhere go; 0: none
    )
    config.decontaminate = dict(
        questions=""  # JSONL or CSV files of evaluation questions, or globs; without them the stage is left out
    )
    config.mask = dict(placeholder="<|{type}|>")
    config.shard = dict(
        tokenizer="",  # folder; without one the stage is left out
        sequence_length=4096,
        rows_per_shard=32768,
        held_out=0.0,  # share of the documents that goes to out/held_out instead
        # What mask writes gets loss weight 0; "": it is trained on.
        no_loss=config.mask.get_oneway_ref("placeholder"),
    )
    if argument == "plain":
        config.stages = "clean,dedup,shard"
        config.clean.languages = ""
        config.dedup.similarity, config.dedup.signatures = 0.0, False
    elif argument:
        raise ValueError(f"configs/curation.py has no variant {argument}; it has plain")
    return config

"""presidio over JSONL.gz; benchmarks.curation runs it in presidio's own virtual environment.

VENV/bin/python benchmarks/peers/presidio_mask.py mask|spans FOLDER_OF_JSONL_GZ OUTPUT.jsonl en|zh

Its recognisers of patterns and checksums, with a spaCy pipeline without a model: one would find names besides and take
longer.  CN is added to the regions of its phone numbers.
"""

import gzip
import json
import sys
from pathlib import Path

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import PhoneRecognizer
from presidio_anonymizer import AnonymizerEngine

ENTITIES = ["EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS", "CREDIT_CARD", "URL", "US_PASSPORT", "US_SSN"]
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # its own list; no download
REGIONS = ("US", "GB", "DE", "CN", "TW", "HK")


class Blank(SpacyNlpEngine):
    """A tokenizer, no model."""

    def __init__(self, language: str):
        super().__init__()
        self.nlp = {language: spacy.blank(language)}


def analyzer(language: str) -> AnalyzerEngine:
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language])
    registry.remove_recognizer("PhoneRecognizer")
    registry.add_recognizer(PhoneRecognizer(supported_language=language, supported_regions=REGIONS))
    return AnalyzerEngine(registry=registry, nlp_engine=Blank(language), supported_languages=[language])


def main(job: str, source: str, output: str, language: str) -> None:
    engine, anonymizer = analyzer(language), AnonymizerEngine()
    entities = [name for name in ENTITIES if name in engine.get_supported_entities(language)]
    with open(output, "w", encoding="utf-8") as out:
        for path in sorted(Path(source).glob("*.jsonl.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as f:
                for doc in map(json.loads, f):
                    found = engine.analyze(doc["text"], language=language, entities=entities)
                    row = [[one.start, one.end] for one in found]
                    if job == "mask":
                        row = doc | {"text": anonymizer.anonymize(doc["text"], found).text}
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

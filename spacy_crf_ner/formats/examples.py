"""What the formats look like, in a line each: for a user whose file is of none that can be told."""

from typing import Dict

from spacy_crf_ner.formats.registry import reader_names, readers

EXAMPLES: Dict[str, str] = {
    "bio": "lines of token and tag: 王 B-PER; an empty line after each sentence",
    "iob1": "the same; an entity begins with I-, and with B- after another of its label",
    "bios": "the same with S- for an entity of one token",
    "bioes": "the same with E- for the last token, S- for a single one",
    "biluo": "the same with L- and U-",
    "bmes": "the same with M-, E- and S-",
    "bmewo": "the same with M-, E- and W-",
    "conll": "lines of columns: Ann NNP B-NP B-PER (--set token_column=0 --set tag_column=3)",
    "conllu": "CoNLL-U with the entity in MISC: 1  Ann  Ann  PROPN  _  _  0  root  _  name=B-PER",
    "conll2012": "columns with brackets, as of OntoNotes: Ann  (PERSON*)",
    "inline": "one sentence per line: 王/B-PER 去/O, or 王 B-PER 去 O with --set 'separator=\" \"'",
    "webanno": "WebAnno TSV 3: #FORMAT=WebAnno TSV 3.3",
    "brat": "a folder of .txt and .ann files: T1  PER 0 3  Ann",
    "csv": "a table with a header: Sentence #,Word,POS,Tag",
    "jsonl": '{"text": "王明去", "label": [[0, 2, "PER"]]}, and the exports of annotation tools',
    "cluener": '{"text": "王明去", "label": {"PER": {"王明": [[0, 1]]}}}',
    "spert": '{"tokens": ["Ann", "left"], "entities": [{"type": "PER", "start": 0, "end": 1}], "relations": []}',
    "huggingface": '{"tokens": ["Ann", "left"], "ner_tags": ["B-PER", "O"]}, or numbers with --set names=O,B-PER',
    "gliner": '{"tokenized_text": ["Ann", "left"], "ner": [[0, 0, "PER"]]}',
    "uie": '{"content": "王明去", "prompt": "PER", "result_list": [{"text": "王明", "start": 0, "end": 2}]}',
    "spacy2": '["Ann left", {"entities": [[0, 3, "PER"]]}]',
    "parquet": "a Parquet file of records as jsonl or huggingface have them",
    "spacy": "a DocBin: .spacy",
}
"""One for each reader that comes with this package."""


def reader_examples() -> Dict[str, str]:
    """What each format looks like that can be read, by its name.

    RETURNS (Dict[str, str]): Those of this package, and then others by the first line of their reader's docstring.
    """
    names = reader_names()
    others = [name for name in names if name not in EXAMPLES]
    examples = {name: looks for name, looks in EXAMPLES.items() if name in names}
    for name in others:
        lines = (readers.get(name).__doc__ or "").strip().splitlines()
        examples[name] = lines[0] if lines else "a format of your own"
    return examples

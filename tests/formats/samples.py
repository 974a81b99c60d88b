"""A small file of each format that can be read, with what it holds and an independent count of its entities."""

import json
import re
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

Names = List[List[Tuple[str, str]]]

ANN = [("Ann Lee", "PER"), ("New York", "LOC")]
BOB: List[Tuple[str, str]] = [("Bob", "PER")]
NAMES: Names = [ANN, [], BOB]
"""What each sample holds: three sentences, the second without an entity."""

TOKENS = [["Ann", "Lee", "left", "New", "York", "."], ["It", "rains", "."], ["Bob", "works", "."]]
SPANS = [[(0, 2, "PER"), (3, 5, "LOC")], [], [(0, 1, "PER")]]
TEXTS = [" ".join(tokens) for tokens in TOKENS]


class Sample(NamedTuple):
    """A file.

    content (str): What stands in it.
    n_entities (Callable[[str], Optional[int]]): How many entities a damaged copy has at least, counted without the
        reader; None where it cannot be read at all.
    settings (Mapping[str, Any]): Settings with which it is read where the format is given.
    found (Mapping[str, Any]): Settings that a look at it tells.
    """

    content: str
    n_entities: Callable[[str], Optional[int]]
    settings: Mapping[str, Any] = MappingProxyType({})
    found: Mapping[str, Any] = MappingProxyType({})


def tagged(letters: str, line: str = "{token}\t{tag}\n") -> str:
    """A file of tags, whose letters are those for the first, inner, last and single token of an entity."""
    content = ""
    for tokens, spans in zip(TOKENS, SPANS):
        tags = ["O"] * len(tokens)
        for start, end, label in spans:
            for i in range(start, end):
                position = 3 if end - start == 1 else 0 if i == start else 2 if i == end - 1 else 1
                tags[i] = f"{letters[position]}-{label}"
        for i, (token, tag) in enumerate(zip(tokens, tags)):
            content += line.format(token=token, tag=tag, i=i + 1)
        content += "\n"
    return content


def records(*each: Any) -> str:
    """JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in each)


def _places(spans: List[Tuple[int, int, str]], tokens: List[str]) -> List[Tuple[int, int, str]]:
    starts = [len(" ".join(tokens[:i])) + bool(i) for i in range(len(tokens))]
    return [(starts[start], starts[end - 1] + len(tokens[end - 1]), label) for start, end, label in spans]


PLACES = [_places(spans, tokens) for spans, tokens in zip(SPANS, TOKENS)]


def n_matches(pattern: str) -> Callable[[str], int]:
    """Counts what matches in lines."""
    return lambda content: len(re.findall(pattern, content, flags=re.M))


def n_begun(content: str) -> int:
    """Counts entities of IOB1."""
    count, before = 0, ""
    for line in content.split("\n"):
        match = re.fullmatch(r"\S+[ \t]([BI])-(\S+)", line.removesuffix("\r"))
        count += match is not None and (match[1] == "B" or match[2] != before)
        before = match[2] if match else ""
    return count


def of_json(count: Callable[[Any], int]) -> Callable[[str], Optional[int]]:
    """Counts in each of the values of a file; None where it is not JSON. What has other keys counts as one: what
    it lost must be said."""

    def counted(content: str) -> Optional[int]:
        at, total = 0, 0
        content = content.removeprefix("\ufeff").rstrip(" \t\r\n")
        while at < len(content):
            try:
                value, at = json.JSONDecoder().raw_decode(content, at + len(re.match(r"\s*", content[at:])[0]))  # type: ignore[index]
            except ValueError:
                return None
            try:
                total += count(value)
            except (TypeError, KeyError, AttributeError, IndexError):
                total += 1
        return total

    return counted


def _conllu() -> str:
    content = ""
    for tokens, spans in zip(TOKENS, SPANS):
        tags = {
            i: f"name={'B' if i == start else 'I'}-{label}"
            for start, end, label in spans
            for i in range(start, end)
        }
        content += f"# text = {' '.join(tokens)}\n"
        for i, token in enumerate(tokens):
            content += f"{i + 1}\t{token}\t{token.lower()}\tX\t_\t_\t0\troot\t_\t{tags.get(i, 'name=O')}\n"
        content += "\n"
    return content


def _brackets() -> str:
    content = ""
    for tokens, spans in zip(TOKENS, SPANS):
        for i, token in enumerate(tokens):
            opened = "".join(f"({label}" for start, _, label in spans if start == i)
            closed = "".join(")" for _, end, _ in spans if end - 1 == i)
            content += f"{token}\t{opened}{'' if opened and closed else '*'}{closed}\n"
        content += "\n"
    return content


def _webanno() -> str:
    content = "#FORMAT=WebAnno TSV 3.3\n#T_SP=custom.Span|value\n\n"
    offset, number = 0, 0
    for n, (tokens, spans) in enumerate(zip(TOKENS, SPANS), start=1):
        content += f"\n#Text={' '.join(tokens)}\n"
        cells = ["_"] * len(tokens)
        for start, end, label in spans:
            number += 1
            for i in range(start, end):
                cells[i] = f"{label}[{number}]"
        for i, token in enumerate(tokens):
            content += f"{n}-{i + 1}\t{offset}-{offset + len(token)}\t{token}\t{cells[i]}\t\n"
            offset += len(token) + 1
    return content


def _n_webanno(content: str) -> int:
    return len(set(re.findall(r"^\d+-\d+\t\d+-\d+\t\S+\t\w+(\[\d+\])\t?$", content, flags=re.M)))


_letters = n_matches(r"^\S+[ \t][BSUW]-\S+\r?$")
_entities = of_json(lambda record: len(record["entities"]))

SAMPLES: Dict[str, Sample] = {
    "bio": Sample(tagged("BIIB"), _letters),
    "iob1": Sample(tagged("IIII"), n_begun),
    "bios": Sample(tagged("BIIS"), _letters),
    "bioes": Sample(tagged("BIES"), _letters),
    "biluo": Sample(tagged("BILU"), _letters),
    "bmes": Sample(tagged("BMES").replace("New\tB-LOC", "New\tB-LOC\nbig\tM-LOC").replace("big", "New"), _letters),
    "bmewo": Sample(tagged("BMEW"), _letters),
    "conll": Sample(
        tagged("BIIB", "{i}\t{token}\tX\t{tag}\n"),
        n_matches(r"^\d+\t\S+\t\S+\tB-\S+\r?$"),
        {"token_column": 1},
        {"scheme": "bio", "token_column": 1},
    ),
    "conllu": Sample(_conllu(), n_matches(r"^\d+(\t\S+){8}\tname=B-\S+\r?$")),
    "conll2012": Sample(
        _brackets(),
        n_matches(r"^\S+\t\(\w+\*?\)?\r?$"),
        {"token_column": 0, "tag_column": 1},
        {"token_column": 0, "tag_column": 1},
    ),
    "inline": Sample(
        "\n".join(line.replace("\n", " ") for line in tagged("BIIB", "{token}/{tag}\n").split("\n\n")),
        n_matches(r"(?<!\S)\S+/B-[^\s/]+(?!\S)"),
        {},
        {"scheme": "bio"},
    ),
    "webanno": Sample(_webanno(), _n_webanno),
    "csv": Sample(
        "Sentence #,Word,POS,Tag\n"
        + "".join(
            f"{f'Sentence: {n}' if i == 0 else ''},{token},X,{tag}\n"
            for n, block in enumerate(tagged("BIIB").rstrip("\n").split("\n\n"), start=1)
            for i, (token, tag) in enumerate(line.split("\t") for line in block.split("\n"))
        ),
        n_matches(r"^[^,\n]*,[^,\n]+,[^,\n]*,B-[^,\s]+\r?$"),
    ),
    "jsonl": Sample(
        records(*({"text": text, "label": spans} for text, spans in zip(TEXTS, PLACES))),
        of_json(lambda record: len(record["label"])),
    ),
    "cluener": Sample(
        records(
            *(
                {
                    "text": text,
                    "label": {label: {text[start:end]: [[start, end - 1]]} for start, end, label in spans},
                }
                for text, spans in zip(TEXTS, PLACES)
            )
        ),
        of_json(lambda record: sum(len(m) for mentions in record["label"].values() for m in mentions.values())),
    ),
    "spert": Sample(
        records(
            *(
                {
                    "tokens": tokens,
                    "entities": [{"type": label, "start": start, "end": end} for start, end, label in spans],
                    "relations": [],
                }
                for tokens, spans in zip(TOKENS, SPANS)
            )
        ),
        _entities,
    ),
    "huggingface": Sample(
        records(
            *(
                {"tokens": tokens, "ner_tags": [line.split("\t")[1] for line in block.split("\n")]}
                for tokens, block in zip(TOKENS, tagged("BIIB").rstrip("\n").split("\n\n"))
            )
        ),
        of_json(lambda record: sum(tag.startswith("B-") for tag in record["ner_tags"])),
    ),
    "gliner": Sample(
        records(
            *(
                {"tokenized_text": tokens, "ner": [[start, end - 1, label] for start, end, label in spans]}
                for tokens, spans in zip(TOKENS, SPANS)
            )
        ),
        of_json(lambda record: len(record["ner"])),
    ),
    "uie": Sample(
        records(
            *(
                {
                    "content": text,
                    "result_list": [
                        {"text": text[start:end], "start": start, "end": end}
                        for start, end, label in spans
                        if label == prompt
                    ],
                    "prompt": prompt,
                }
                for text, spans in zip(TEXTS, PLACES)
                for prompt in ("PER", "LOC")
            )
        ),
        of_json(lambda record: len(record["result_list"])),
    ),
    "spacy2": Sample(
        records(*([text, {"entities": spans}] for text, spans in zip(TEXTS, PLACES))),
        of_json(lambda record: len(record[1]["entities"])),
    ),
}
"""By the name of the format. The binary ones and brat, which has two files, are tested by themselves."""

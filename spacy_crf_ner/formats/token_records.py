"""Records of tokens and their tags, as data sets of the Hugging Face Hub have them -> docs."""

from typing import Any, List, Optional, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import TAG_KEYS, TOKEN_KEYS, are_numbers, are_tags
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.records import Record, refuse_unread, unannotated
from spacy_crf_ner.formats.tag_lists import TagReader, tokens_of


class TokenRecords:
    """Reads the records of one file.

    make (DocMaker): Makes the docs.
    tags (TagReader): Reads their tags.
    token_key (Optional[str]): The key of the tokens. None: "tokens" or "words".
    label_key (Optional[str]): The key of the tags. None: one of `annotation_keys.TAG_KEYS`.
    RAISES (ValueError): A setting is wrong.
    """

    def __init__(
        self, make: DocMaker, tags: TagReader, *, token_key: Optional[str], label_key: Optional[str]
    ) -> None:
        for name, key in (("token_key", token_key), ("label_key", label_key)):
            if key is not None and not isinstance(key, str):
                raise ValueError(f"the setting {name} is {key!r}; give the name of a key")
        self._make = make
        self._tags = tags
        self._token_key = token_key
        self._label_key = label_key

    def doc(self, record: Record) -> Doc:
        """Make the doc of a record. Keys that are not read become its meta.

        RAISES (FormatError): It has no tokens, or tags that are not theirs.
        """
        value = record.value
        token_key = self._token_key or next((key for key in TOKEN_KEYS if key in value), TOKEN_KEYS[0])
        tokens = tokens_of(record, token_key)
        keys = self._keys_of_tags(record, tokens)
        spans = [self._tags.spans(record, tokens, value[key], key, self._make) for key in keys]
        for key, others in zip(keys[1:], spans[1:]):
            if others != spans[0]:
                what = f'"{keys[0]}" and "{key}" hold different tags'
                raise record.error(what, f"name the right one with --set label_key={keys[0]} (or {key})")
        meta = record.meta((token_key, *keys))
        doc = self._make.from_tokens(tokens, spans[0] if spans else [], record.source, record.line, meta=meta)
        return doc if spans else unannotated(doc, self._make)

    def _keys_of_tags(self, record: Record, tokens: List[str]) -> Tuple[str, ...]:
        """The keys that hold tags. Part-of-speech tags, too, are often called tags."""
        value = record.value
        if self._label_key is not None:
            return (self._label_key,) if value.get(self._label_key) is not None else ()
        # A list of other strings, or of another length, is wrong only where it can be nothing else.
        if value.get("ner_tags") is not None and not _are_tags_of(value["ner_tags"], tokens):
            return ("ner_tags",)
        found = tuple(key for key in TAG_KEYS if _are_tags_of(value.get(key), tokens))
        known = [key for key in TAG_KEYS if value.get(key) is not None]
        if found or not known:
            if not found:
                fix = "name the key of the tags with --set label_key={key}"
                refuse_unread(record, TOKEN_KEYS, text=None, tokens=tokens, fix=fix)
            return found
        return (known[0],)


def _are_tags_of(tags: Any, tokens: List[str]) -> bool:
    if not isinstance(tags, list) or len(tags) != len(tokens):
        return False
    return not tags or are_tags(tags) or are_numbers(tags)

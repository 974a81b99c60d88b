"""Word-pieces of texts by the library `tokenizers` alone: with it a pipeline runs where transformers is not."""

from functools import partial
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc
from tokenizers import Tokenizer


class Pieces(NamedTuple):
    """Word-pieces of a text.

    tokens (List[str]): As the vocabulary has them.
    ids (List[int]): Their numbers in the vocabulary.
    offsets (List[Tuple[int, int]]): The characters of each.
    """

    tokens: List[str]
    ids: List[int]
    offsets: List[Tuple[int, int]]

    @classmethod
    def from_encoding(cls, encoding: Any) -> "Pieces":
        """Those of a tokenizer's `Encoding`, which makes its lists anew each time it is asked for them."""
        return cls(encoding.tokens, encoding.ids, encoding.offsets)

    def cut(self, start: int, end: int) -> "Pieces":
        """Those from one place to another."""
        return Pieces(self.tokens[start:end], self.ids[start:end], self.offsets[start:end])

    def add(self, others: "Pieces") -> None:
        """Append other pieces."""
        self.tokens.extend(others.tokens)
        self.ids.extend(others.ids)
        self.offsets.extend(others.offsets)


class PieceTokenizer:
    """A tokenizer that knows the special tokens at the ends of a text and puts none into it: texts become windows,
    each with special tokens of its own.

    tokenizer (Tokenizer): The tokenizer. Truncation and padding, which a saved one may do, are switched off.
    takes_types (bool): Whether its encoder takes `token_type_ids`.
    splits_special (bool): Whether the name of a special token in a text is text.
    """

    def __init__(self, tokenizer: Tokenizer, *, takes_types: bool, splits_special: bool = False) -> None:
        # A setting that is saved with no tokenizer.
        tokenizer.encode_special_tokens = splits_special
        self.tokenizer = tokenizer
        self.takes_types = takes_types
        self.splits_special = splits_special
        (ends,) = self._encode(["a"], add_special_tokens=True)
        marks = ends.special_tokens_mask
        n_before, n_after = marks.index(0), marks[::-1].index(0)
        pieces, types = Pieces.from_encoding(ends), ends.type_ids
        self.before = pieces.cut(0, n_before)
        """The special tokens before a text."""
        self.after = pieces.cut(len(marks) - n_after, len(marks))
        """Those behind it."""
        self._types = types[:n_before], types[n_before], types[len(marks) - n_after :]

    @classmethod
    def from_pretrained(cls, tokenizer: Any) -> "PieceTokenizer":
        """That of transformers' tokenizer.

        tokenizer (PreTrainedTokenizerFast): The tokenizer.
        """
        return cls(
            tokenizer.backend_tokenizer,
            takes_types="token_type_ids" in tokenizer.model_input_names,
            splits_special=tokenizer.split_special_tokens,
        )

    def __reduce__(self) -> Any:
        return partial(PieceTokenizer, takes_types=self.takes_types, splits_special=self.splits_special), (
            self.tokenizer,
        )

    def __call__(self, docs: Sequence[Doc]) -> List[Pieces]:
        """Encode docs.

        docs (Sequence[Doc]): The docs.
        RETURNS (List[Pieces]): The word-pieces of each, without special tokens.
        """
        return self.encode([doc.text for doc in docs])

    def encode(self, texts: Sequence[str]) -> List[Pieces]:
        """Encode texts.

        texts (Sequence[str]): The texts.
        RETURNS (List[Pieces]): The word-pieces of each, without special tokens.
        """
        return [Pieces.from_encoding(x) for x in self._encode(texts, add_special_tokens=False)]

    def with_ends(self, pieces: Pieces) -> Pieces:
        """Word-pieces between the special tokens. These are at no place of the text.

        pieces (Pieces): The word-pieces.
        """
        window = Pieces([], [], [])
        for part in (self.before, pieces, self.after):
            window.add(part)
        return window

    def type_ids(self, n_pieces: int) -> Optional[List[int]]:
        """The types of word-pieces between special tokens, and of these.

        n_pieces (int): How many, special tokens counted.
        RETURNS (Optional[List[int]]): The types; None where the encoder takes none.
        """
        if not self.takes_types:
            return None
        before, inner, after = self._types
        return [*before, *[inner] * (n_pieces - len(before) - len(after)), *after]

    def _encode(self, texts: Sequence[str], *, add_special_tokens: bool) -> List[Any]:
        # Only where it is needed: nobody else may be encoding while a setting changes.
        if self.tokenizer.truncation is not None:
            self.tokenizer.no_truncation()
        if self.tokenizer.padding is not None:
            self.tokenizer.no_padding()
        return self.tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)

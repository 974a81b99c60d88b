"""What a teacher says of many texts, computed once and kept on disk: shards that are written whole or not at all.

A folder holds ``teacher.json`` (what it was made of), ``crf.npz`` (the CRF's own potentials, the same for all
texts), and for each shard ``docs-00000.spacy`` (the docs with their gold annotation, if they have any),
``emissions-00000.npy`` (float16) and ``tokens-00000.npy``. A run that was cut goes on with the first shard that
is missing. In training, emissions are mapped into memory and not read: memory stays constant.
"""

import json
import random
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union
from zlib import crc32

import numpy
from numpy.typing import NDArray
from spacy import util
from spacy.attrs import IDX
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from thinc.types import Ragged

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.ner.distillation import SEQUENCES, TEMPERATURE, Lesson
from spacy_crf_ner.tagger.potentials import Potentials

SHARD_SIZE = 2000
"""Docs of a shard."""
SHARDS_AT_A_TIME = 4
"""Shards whose docs are in memory and mixed."""
KEY = "crf_teacher"
"""Under which `Doc.user_data` has a doc's number among all that the teacher has read."""
_GOLD, _TEXTS = "gold", "texts"
_ABOUT, _BEGUN, _CRF = "teacher.json", "begun.json", "crf.npz"


class TeacherCache:
    """The potentials of a teacher, by the number of the doc.

    folder (Union[str, Path]): What `TeacherCache.fill` made.
    RAISES (OSError): There is no such cache, or it is not complete.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = folder = Path(folder)
        try:
            self.about: Dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf8"))
        except FileNotFoundError:
            what = f"{show_path(folder)}: holds no complete cache of a teacher's potentials"
            raise FileNotFoundError(f"{what}; make it with `crf distill`") from None
        with numpy.load(folder / _CRF) as crf:
            self._crf: Tuple[Any, ...] = tuple(crf[name] for name in ("start", "transitions", "end"))
        self._shard = lru_cache(maxsize=64)(self._open_shard)

    @property
    def labels(self) -> List[str]:
        """The teacher's labels, in the order of its tags."""
        return self.about["labels"]

    @property
    def inactive_labels(self) -> List[str]:
        """Those that it does not predict."""
        return self.about["inactive_labels"]

    @classmethod
    def fill(
        cls,
        folder: Path,
        teacher: Language,
        name: str,
        gold: Iterable[Example],
        texts: Iterable[str],
        *,
        made_of: Dict[str, Any],
        progress: Optional[Callable[[int], object]] = None,
    ) -> "TeacherCache":
        """Let a teacher read docs, and keep what it says.

        folder (Path): Where. What is there of the same teacher and docs is not computed again.
        teacher (Language): The teacher's pipeline.
        name (str): Its `crf_ner`.
        gold (Iterable[Example]): Annotated docs, in an order that is always the same, with the teacher's tokens.
        texts (Iterable[str]): Texts without annotation, alike.
        made_of (Dict[str, Any]): What tells this teacher and these docs from others; kept as JSON.
        progress (Optional[Callable[[int], object]]): Called with the number of docs that were done.
        RETURNS (TeacherCache): The cache.
        RAISES (ValueError): The folder holds the cache of another teacher or of other docs.
        RAISES (OSError): The folder cannot be written.
        """
        pipe: Any = teacher.get_pipe(name)
        about = {
            "labels": list(pipe.labels),
            "inactive_labels": list(pipe.inactive_labels),
            "component": name,
            "shard_size": SHARD_SIZE,
            **made_of,
        }
        _check_same(folder, about)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / _BEGUN, about)
        others = teacher.component_names[teacher.component_names.index(name) :]
        raw = (Example(doc, teacher.make_doc(doc.text)) for doc in map(teacher.make_doc, texts))
        number, shards, n_docs = 0, {}, {}
        for group, examples in ((_GOLD, gold), (_TEXTS, raw)):
            stream, first = iter(examples), number
            n_docs[group] = 0
            while batch := list(islice(stream, SHARD_SIZE)):
                if not (folder / f"tokens-{number:05}.npy").is_file():
                    # Copies, which are forgotten when they have been predicted, with what the pipes before set.
                    docs = teacher.pipe((example.predicted.copy() for example in batch), disable=others)
                    cls._write_shard(folder, number, pipe, docs, [example.reference for example in batch])
                number += 1
                n_docs[group] += len(batch)
                if progress is not None:
                    progress(len(batch))
            shards[group] = [first, number]
        _write_json(folder / _ABOUT, {**about, "n_docs": n_docs, "shards": shards})
        return cls(folder)

    @staticmethod
    def _write_shard(folder: Path, number: int, pipe: Any, docs: Iterable[Doc], references: List[Doc]) -> None:
        emissions: List[NDArray[Any]] = []
        tokens: List[Tuple[int, int]] = []
        for batch in util.minibatch(docs, 256):
            potentials = pipe.predict(batch)
            emissions.append(_compact(pipe.model.ops.to_numpy(potentials.emissions.dataXd)))
            tokens += [(len(doc), _digest_of_tokens(doc)) for doc in batch]
            if not (folder / _CRF).is_file() and any(map(len, batch)):
                crf = {"start": potentials.start, "transitions": potentials.transitions, "end": potentials.end}
                with whole_file(folder / _CRF) as part, part.open("wb") as file:
                    numpy.savez(file, **{key: pipe.model.ops.to_numpy(x) for key, x in crf.items()})
        stored = DocBin(docs=references)
        with whole_file(folder / f"docs-{number:05}.spacy") as part:
            stored.to_disk(part)
        with whole_file(folder / f"emissions-{number:05}.npy") as part, part.open("wb") as file:
            numpy.save(file, numpy.concatenate(emissions))
        # Last: a shard is there when this is.
        with whole_file(folder / f"tokens-{number:05}.npy") as part, part.open("wb") as file:
            numpy.save(file, numpy.array(tokens, dtype="int64"))

    def _open_shard(self, number: int) -> Tuple[List[int], List[int], NDArray[Any]]:
        lengths, digests = numpy.load(self.folder / f"tokens-{number:05}.npy").T
        emissions = numpy.load(self.folder / f"emissions-{number:05}.npy", mmap_mode="r")
        return [0, *lengths.cumsum().tolist()], digests.tolist(), emissions

    def potentials_of(self, docs: Sequence[Doc]) -> Potentials:
        """What the teacher says of docs.

        docs (Sequence[Doc]): The docs, with their numbers under `KEY`.
        RETURNS (Potentials): The potentials, float32, on the CPU.
        RAISES (ValueError): A doc has no number, or other tokens than the teacher's.
        """
        size = self.about["shard_size"]
        parts = []
        for doc in docs:
            number = doc.user_data.get(KEY)
            if number is None:
                raise ValueError(
                    "a doc has no number among those that the teacher has read; read the docs with "
                    "spacy-crf-ner.TaughtCorpus.v1"
                )
            ends, digests, emissions = self._shard(number // size)
            place = number % size
            part = emissions[ends[place] : ends[place + 1]]
            if len(part) != len(doc) or digests[place] != _digest_of_tokens(doc):
                raise ValueError(
                    f"doc {number} must have the teacher's {len(part)} tokens, got {len(doc)}, or others; make "
                    "both with the same tokenizer"
                )
            parts.append(part.astype("float32"))
        start, transitions, end = self._crf
        lengths: Any = numpy.array([len(part) for part in parts], dtype="int32")
        rows: Any = numpy.concatenate([numpy.zeros((0, len(start)), dtype="float32"), *parts])
        return Potentials(Ragged(rows, lengths), start, transitions, end)

    def examples(self, nlp: Language, draw: random.Random, gold_repeats: int = 1) -> Iterator[Example]:
        """The docs in a random order; a few shards at a time, which is all that is in memory.

        nlp (Language): The student, whose tokenizer makes the predicted docs.
        draw (Random): Makes the order.
        gold_repeats (int): How often each annotated doc comes.
        YIELDS (Example): The examples.
        """
        shards = [*range(*self.about["shards"][_GOLD])] * gold_repeats + [*range(*self.about["shards"][_TEXTS])]
        draw.shuffle(shards)
        stream = iter(shards)
        while some := list(islice(stream, SHARDS_AT_A_TIME)):
            numbered: List[Tuple[int, Doc]] = []
            for shard in some:
                docs = DocBin().from_disk(self.folder / f"docs-{shard:05}.spacy").get_docs(nlp.vocab)
                numbered += enumerate(docs, start=shard * self.about["shard_size"])
            draw.shuffle(numbered)
            for number, doc in numbered:
                own = doc.has_unknown_spaces
                predicted = Doc(nlp.vocab, [token.text for token in doc]) if own else nlp.make_doc(doc.text)
                predicted.user_data[KEY] = number
                yield Example(predicted, doc)


class TaughtCorpus:
    """`spacy-crf-ner.TaughtCorpus.v1`: the docs that a teacher has read, to train a pipe that has a `Lesson`.

    path (Union[str, Path]): The cache of the teacher's potentials, as `crf distill` makes it.
    gold_repeats (int): How often each annotated doc comes, while each other one comes once.
    seed (int): Of the order, which is another one each time.
    """

    def __init__(self, path: Union[str, Path], gold_repeats: int = 1, seed: int = 0) -> None:
        if gold_repeats < 1:
            raise ValueError(f"gold_repeats must be 1 or more, got {gold_repeats}")
        self.cache = TeacherCache(path)
        self.gold_repeats = gold_repeats
        self._draw = random.Random(seed)

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Read the docs.

        nlp (Language): The student.
        YIELDS (Example): The examples; the predicted docs have their number in `user_data`.
        """
        return self.cache.examples(nlp, self._draw, self.gold_repeats)


def lesson_from_cache(
    path: Union[str, Path], alpha: float = 0.5, temperature: float = TEMPERATURE, objective: str = SEQUENCES
) -> Lesson:
    """`spacy-crf-ner.Lesson.v1`: what a pipe learns from a teacher, for `initialize`.

    path (Union[str, Path]): The cache of the teacher's potentials, as `crf distill` makes it.
    alpha, temperature, objective: As of `Lesson`.
    RETURNS (Lesson): The lesson.
    RAISES (OSError): There is no such cache.
    """
    cache = TeacherCache(path)
    return Lesson(cache.labels, cache.inactive_labels, cache.potentials_of, alpha, temperature, objective)


def _compact(emissions: NDArray[Any]) -> NDArray[Any]:
    """Emissions in half precision. The greatest of each token becomes 0: no distribution changes, and half
    precision is most exact for what is most probable.

    RAISES (ValueError): They are not finite numbers.
    """
    if not numpy.isfinite(emissions).all():
        raise ValueError("the teacher's scores are not finite numbers; train it anew")
    shifted = emissions - emissions.max(axis=1, keepdims=True, initial=-numpy.inf)
    return numpy.maximum(shifted, numpy.finfo("float16").min).astype("float16")


def _digest_of_tokens(doc: Doc) -> int:
    """A checksum of where the tokens begin."""
    return crc32(doc.to_array(IDX).astype("int64").tobytes())


def _check_same(folder: Path, about: Dict[str, Any]) -> None:
    path = folder / _BEGUN
    if path.is_file() and json.loads(path.read_text(encoding="utf8")) != json.loads(json.dumps(about)):
        raise ValueError(
            f"{show_path(folder)}: holds what another teacher says, or of other texts; name another folder, or "
            "remove this one"
        )


def _write_json(path: Path, value: Any) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf8")

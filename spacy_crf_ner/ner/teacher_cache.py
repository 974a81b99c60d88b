"""What a teacher says of many texts, computed once and kept on disk: shards that are written whole or not at all.

A folder holds ``teacher.json`` (what it was made of), ``crf.npz`` (the CRF's own potentials, the same for all
texts), and for each shard ``docs-00000.spacy``, ``emissions-00000.npy`` and ``lengths-00000.npy``. A run that was
cut goes on with the first shard that is missing. In training, the emissions are mapped and not read: memory stays
constant.
"""

import json
import random
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from thinc.types import Ragged

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.tagger.potentials import Potentials

SHARD_SIZE = 2000
"""Docs of a shard."""
KEY = "crf_teacher"
"""Under which `Doc.user_data` has a doc's number among all that the teacher has read."""


class TeacherCache:
    """The potentials of a teacher, by the number of the doc.

    folder (Path): What `TeacherCache.fill` made.
    RAISES (OSError): There is no such cache, or it is not complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.about: Dict[str, Any] = json.loads((folder / "teacher.json").read_text(encoding="utf8"))
        except FileNotFoundError:
            what = f"{show_path(folder)}: holds no complete cache of a teacher"
            raise FileNotFoundError(f"{what}; fill it first") from None
        with numpy.load(folder / "crf.npz") as crf:
            self._crf = tuple(crf[name] for name in ("start", "transitions", "end"))
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
        docs: Iterable[Doc],
        *,
        made_of: Dict[str, Any],
        progress: Optional[Callable[[int], object]] = None,
    ) -> "TeacherCache":
        """Let a teacher read docs, and keep what it says.

        folder (Path): Where. What is there of the same teacher and docs is not computed again.
        teacher (Language): The teacher's pipeline.
        name (str): Its `crf_ner`.
        docs (Iterable[Doc]): The docs, in an order that is always the same, with the teacher's vocab.
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
            "shard_size": SHARD_SIZE,
            **made_of,
        }
        _check_same(folder, about)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "begun.json", about)
        before = [component for n, component in teacher.pipeline[: teacher.pipe_names.index(name)]]
        stream, n_docs = iter(docs), 0
        for number in range(10**9):
            batch = list(islice(stream, SHARD_SIZE))
            if not batch:
                break
            if not (folder / f"lengths-{number:05}.npy").is_file():
                for component in before:
                    batch = list(component.pipe(batch, batch_size=256))
                cls._write_shard(folder, number, pipe, batch)
            n_docs += len(batch)
            if progress is not None:
                progress(len(batch))
        _write_json(folder / "teacher.json", {**about, "n_docs": n_docs})
        return cls(folder)

    @staticmethod
    def _write_shard(folder: Path, number: int, pipe: Any, docs: List[Doc]) -> None:
        emissions: List[NDArray[Any]] = []
        for begin in range(0, len(docs), 256):
            potentials = pipe.predict(docs[begin : begin + 256])
            emissions.append(pipe.model.ops.to_numpy(potentials.emissions.dataXd).astype("float16"))
        crf = {"start": potentials.start, "transitions": potentials.transitions, "end": potentials.end}
        with whole_file(folder / "crf.npz") as part, part.open("wb") as file:
            numpy.savez(file, **{key: pipe.model.ops.to_numpy(x) for key, x in crf.items()})
        plain = DocBin(store_user_data=False)
        for doc in docs:
            plain.add(doc)
        with whole_file(folder / f"docs-{number:05}.spacy") as part:
            plain.to_disk(part)
        with whole_file(folder / f"emissions-{number:05}.npy") as part, part.open("wb") as file:
            numpy.save(file, numpy.concatenate(emissions))
        # Last: a shard is there when this is.
        with whole_file(folder / f"lengths-{number:05}.npy") as part, part.open("wb") as file:
            numpy.save(file, numpy.array([len(doc) for doc in docs], dtype="int64"))

    def _open_shard(self, number: int) -> Tuple[NDArray[numpy.int64], NDArray[Any]]:
        lengths = numpy.load(self.folder / f"lengths-{number:05}.npy")
        return numpy.cumsum([0, *lengths]), numpy.load(self.folder / f"emissions-{number:05}.npy", mmap_mode="r")

    def potentials_of(self, docs: Sequence[Doc]) -> Potentials:
        """What the teacher says of docs.

        docs (Sequence[Doc]): The docs, with their numbers under `KEY`.
        RETURNS (Potentials): The potentials, float32, on the CPU.
        RAISES (ValueError): A doc has no number, or other tokens than the teacher's.
        """
        parts = []
        for doc in docs:
            number = doc.user_data.get(KEY)
            if number is None:
                raise ValueError("a doc has no number of the teacher's; read the docs with TeacherCache.examples")
            ends, emissions = self._shard(number // SHARD_SIZE)
            place = number % SHARD_SIZE
            part = emissions[ends[place] : ends[place + 1]]
            if len(part) != len(doc):
                raise ValueError(
                    f"doc {number} must have the teacher's {len(part)} tokens, got {len(doc)}; make both with the "
                    "same tokenizer"
                )
            parts.append(part.astype("float32"))
        start, transitions, end = self._crf
        lengths = numpy.array([len(part) for part in parts], dtype="int32")
        rows = numpy.concatenate([numpy.zeros((0, len(start)), dtype="float32"), *parts])
        return Potentials(Ragged(rows, lengths), start, transitions, end)  # type: ignore[arg-type]

    def examples(self, nlp: Language, seed: int = 0) -> Iterator[Example]:
        """The docs without end, in another order each time: shard by shard, which is all that is in memory.

        nlp (Language): The student, whose tokenizer makes the predicted docs.
        seed (int): Of the order.
        YIELDS (Example): The examples.
        """
        draw = random.Random(seed)
        shards = sorted(int(path.stem[-5:]) for path in self.folder.glob("lengths-*.npy"))
        while True:
            draw.shuffle(shards)
            for shard in shards:
                docs = DocBin().from_disk(self.folder / f"docs-{shard:05}.spacy").get_docs(nlp.vocab)
                numbered = list(enumerate(docs, start=shard * SHARD_SIZE))
                draw.shuffle(numbered)
                for number, doc in numbered:
                    predicted = nlp.make_doc(doc.text)
                    predicted.user_data[KEY] = number
                    yield Example(predicted, doc)


def _check_same(folder: Path, about: Dict[str, Any]) -> None:
    for name in ("begun.json", "teacher.json"):
        path = folder / name
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf8"))
            found.pop("n_docs", None)
            if found != json.loads(json.dumps(about)):
                raise ValueError(
                    f"{show_path(folder)}: is of another teacher or of other texts; name another folder"
                )


def _write_json(path: Path, value: Any) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf8")

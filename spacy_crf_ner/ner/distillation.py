"""Distillation: a student learns how probable a teacher holds each way to mark a text.

Wang, Jiang, Bach, Wang, Huang, Huang, Tu (2020), "Structure-level knowledge distillation for multilingual sequence
labeling", ACL: the divergence of whole tag sequences, which two CRFs allow to compute exactly.
"""

from typing import Sequence

import numpy
from spacy.tokens import Doc

from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.messages import listed

TEMPERATURE = 4.0
"""By what the potentials of both are divided."""


def tags_of_teacher(teacher: Sequence[str], student: Sequence[str]) -> Ints:
    """The student's tags that are the teacher's, in the teacher's order: labels are matched by name.

    teacher, student (Sequence[str]): Their labels, in the order of their tags.
    RETURNS (ndarray): *Shape:* (n_tags of the teacher,), int64.
    RAISES (ValueError): The student lacks a label of the teacher.
    """
    if lacking := sorted({*teacher} - {*student}):
        raise ValueError(
            f"the student must have all labels of the teacher, lacks [{listed(lacking)}]; add them with "
            "add_label(), or give them to initialize(labels=...)"
        )
    places = numpy.array([student.index(label) for label in teacher], dtype="int64")
    pairs = numpy.stack([BioTags.begin(places), BioTags.inside(places)], axis=1)
    return numpy.concatenate([[0], pairs.reshape(-1)])


def check_same_tokens(teacher: Sequence[Doc], student: Sequence[Doc]) -> None:
    """Check that two pipelines cut the same texts into the same tokens.

    teacher, student (Sequence[Doc]): The docs of both.
    RAISES (ValueError): Their numbers, their texts or their tokens differ.
    """
    if len(teacher) != len(student):
        raise ValueError(
            f"the student must get as many docs as the teacher, got {len(student)} and {len(teacher)}"
        )
    for i, (theirs, ours) in enumerate(zip(teacher, student)):
        if [token.idx for token in theirs] != [token.idx for token in ours] or theirs.text != ours.text:
            raise ValueError(
                f"doc {i} must have the same tokens for teacher and student; make both with the same tokenizer"
            )

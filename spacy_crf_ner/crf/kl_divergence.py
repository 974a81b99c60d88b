"""How far one CRF's distribution over tag sequences is from another's."""

from typing import Tuple

import numpy

from spacy_crf_ner.crf.chain import Chain, ExpectedCounts
from spacy_crf_ner.crf.forward_backward import expected_counts, posterior


def kl_divergence(teacher: Chain, student: Chain) -> Tuple[float, ExpectedCounts]:
    """The Kullback-Leibler divergence KL(teacher || student) over the tag sequences of a batch, and its gradient.

    A score is linear in its potentials, so the expectation of the student's score under the teacher needs only the
    teacher's expected counts, and the gradient is the student's expected counts less the teacher's.

    teacher, student (Chain): The same batch under two CRFs. Both forbid the same.
    RETURNS (Tuple[float, ExpectedCounts]): The sum over the rows in nats, and its derivative by the student's
        potentials.
    """
    of_teacher, of_student = posterior(teacher), posterior(student)
    ones = numpy.ones(len(teacher.sequences.lengths))
    n_tokens = len(teacher.emissions)
    old, new = (expected_counts(found, n_tokens, ones) for found in (of_teacher, of_student))
    parts = zip(old, teacher.potentials, student.potentials)
    gain = sum(float((count * (theirs - ours)).sum()) for count, theirs, ours in parts)
    return float(of_student.log_z.sum() - of_teacher.log_z.sum()) + gain, ExpectedCounts(
        *(x - y for x, y in zip(new, old))
    )

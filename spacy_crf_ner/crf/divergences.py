"""How far one CRF's distribution over tag sequences is from another's: in three ways, each with its gradient.

Of Wang, Jiang, Bach, Wang, Huang, Tu (2020), "Structure-level knowledge distillation for multilingual sequence
labeling", ACL: the k best sequences (section 3.1) and the posteriors of tokens (section 3.2). The divergence of
whole sequences, which both approximate, is exact between two linear chains.
"""

from typing import Callable, Tuple

import numpy

from spacy_crf_ner.crf.chain import Chain, ExpectedCounts
from spacy_crf_ner.crf.forward_backward import expected_counts, posterior
from spacy_crf_ner.crf.likelihood import log_likelihood
from spacy_crf_ner.crf.marginals import token_marginals
from spacy_crf_ner.crf.viterbi import k_best

Divergence = Callable[..., Tuple[float, ExpectedCounts]]
"""A teacher's and a student's batch, which forbid the same -> the divergence, the sum over the rows in nats, and
its derivative by the student's potentials."""

K = 5
"""How many sequences `k_best_divergence` looks at."""

_TINY = float(numpy.finfo("float64").tiny)


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


def k_best_divergence(teacher: Chain, student: Chain, k: int = K) -> Tuple[float, ExpectedCounts]:
    """The same of the teacher's k best tag sequences only, as if there were no others for the teacher.

    teacher, student (Chain): As of `kl_divergence`.
    k (int): How many sequences of each row.
    RETURNS (Tuple[float, ExpectedCounts]): As of `kl_divergence`.
    """
    found = k_best(teacher, k)
    total, gradient = 0.0, ExpectedCounts(*map(numpy.zeros_like, student.potentials))
    shares = [numpy.exp(scores - numpy.logaddexp.reduce(scores)) for _, scores in found]
    for rank in range(max(map(len, shares), default=0)):
        weight = numpy.array([row[rank] if rank < len(row) else 0.0 for row in shares])
        # A row with fewer sequences has its best one here, with a weight of 0.
        paths = numpy.zeros(len(teacher.emissions), dtype="int64")
        for row, (sequences, _) in enumerate(found):
            steps = numpy.arange(student.sequences.lengths[row]) * student.sequences.stride
            paths[student.sequences.origin[row] + steps] = sequences[rank if weight[row] else 0]
        likelihood = log_likelihood(student, paths)
        log_share = numpy.log(numpy.where(weight > 0, weight, 1.0))
        total += float((weight * (log_share - likelihood.values)).sum())
        for whole, part in zip(gradient, likelihood.gradient(-weight)):
            whole += part
    return total, gradient


def token_divergence(teacher: Chain, student: Chain) -> Tuple[float, ExpectedCounts]:
    """The Kullback-Leibler divergence of each token's tag probabilities, summed over the tokens, and its gradient.

    The student's probabilities are the derivatives of its log partition, and are differentiated once more by
    PyTorch, with a tape: several times slower than `kl_divergence`.

    teacher, student (Chain): As of `kl_divergence`.
    RETURNS (Tuple[float, ExpectedCounts]): As of `kl_divergence`.
    """
    import torch  # what predicts does without

    from spacy_crf_ner.crf.autograd import log_partition

    theirs = torch.from_numpy(token_marginals(posterior(teacher), len(teacher.emissions)))
    emissions, *shared = (torch.from_numpy(x).requires_grad_() for x in student.potentials)
    lattice = None if student.lattice is None else torch.from_numpy(student.lattice)
    with torch.enable_grad():
        log_z = log_partition(emissions, *shared, student.layout, lattice)  # type: ignore[call-arg, arg-type]
        (ours,) = torch.autograd.grad(log_z.sum(), emissions, create_graph=True)
        # Whose probability is 0 has no part; the student's is never quite 0 where the teacher's is not.
        seen = theirs > 0
        loss = (theirs[seen] * (theirs[seen].log() - ours[seen].clamp_min(_TINY).log())).sum()
        found = torch.autograd.grad(loss, (emissions, *shared), materialize_grads=True)
    return float(loss.detach()), ExpectedCounts(*(x.numpy() for x in found))

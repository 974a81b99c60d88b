"""Everything once on a GPU: training in full and half precision, and pipelines that move to a CPU and back."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from thinc.api import CupyOps, NumpyOps, require_cpu, require_gpu, set_gpu_allocator
from thinc.compat import has_cupy_gpu
from thinc.types import Ragged

from spacy_crf_ner.ner.losses import negative_log_likelihood
from spacy_crf_ner.tagger.potentials import Potentials
from tests.encoder.util import (
    encoder_pipeline,
    gradients,
    in_new_process,
    save_tiny_bert,
    shim_of,
    train,
    weights,
)
from tests.ner.util import random_lattices, random_potentials
from tests.util import NO_STEP, SMALL_MODEL, TEXTS, assert_learnt, ents, examples_from, get_pipe, head_of

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and has_cupy_gpu), reason="needs a GPU that torch and cupy can use"
)

READ = [text for text, _ in TEXTS]
LONG = "王小明在北京大学读书。" * 30
HALF = {False: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """Pipelines of the test are built on the GPU; those of the next test on the CPU again."""
    require_gpu()
    try:
        yield torch.device("cuda", torch.cuda.current_device())
    finally:
        require_cpu()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), READ, max_position_embeddings=40)


def devices(module: torch.nn.Module) -> Set[torch.device]:
    return {tensor.device for tensor in (*module.parameters(), *module.buffers())}


def pipeline(encoder: Path, precision: Any, **settings: Any) -> Language:
    """A pipeline of encoder and head, both in this precision."""
    head = {
        "@architectures": "spacy-crf-ner.CRFTagger.v1",
        "lstm_width": 32,
        "attention_heads": 2,
        "mixed_precision": precision,
        "tok2vec": {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "grad_factor": 1.0,
            "pooling": {"@layers": "reduce_mean.v1"},
        },
    }
    return encoder_pipeline(encoder, head=head, mixed_precision=precision, **settings)


def loss_of(nlp: Language) -> float:
    examples = examples_from(nlp)
    pipe = get_pipe(nlp, "crf_ner")
    docs = [nlp(example.text) for example in examples]
    return float(pipe.get_loss(examples, pipe.predict(docs))[0])


def emissions(nlp: Language, texts: List[str]) -> List[Any]:
    """On the CPU, whatever computed them."""
    pipe = get_pipe(nlp, "crf_ner")
    return [NumpyOps().asarray(pipe.predict([nlp(text)]).by_doc()[0]) for text in texts]


def assert_close(ours: List[Any], theirs: List[Any]) -> None:
    for our, their in zip(ours, theirs, strict=True):
        # A GPU may multiply in TF32, whose mantissa has ten bits.
        numpy.testing.assert_allclose(our, their, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("precision", HALF)
def test_a_character_embedding_learns(gpu: torch.device, precision: Any) -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "mixed_precision": precision}})
    examples = examples_from(nlp)
    nlp.initialize(get_examples=lambda: examples)
    assert devices(head_of(nlp)) == {gpu}
    train(nlp, 60, rate=0.01)
    assert_learnt(nlp)
    assert [ents(doc) for doc in nlp.pipe([*READ, "", " "])] == [ents(nlp(text)) for text in [*READ, "", " "]]


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_encoder_learns(gpu: torch.device, encoder: Path, precision: Any, checkpointing: bool) -> None:
    nlp = pipeline(encoder, precision, gradient_checkpointing=checkpointing)
    shim = shim_of(nlp)
    assert devices(shim._model) == devices(head_of(nlp)) == {gpu}
    assert shim._grad_scaler._enabled is (precision == "fp16")
    seen: Set[torch.dtype] = set()
    query = shim.transformer.encoder.layer[0].attention.self.query
    query.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    before, first = weights(shim._model), loss_of(nlp)
    train(nlp, 60, rate=0.005)
    assert seen == {HALF[precision]}
    assert {parameter.dtype for parameter in shim._model.parameters()} == {torch.float32}
    assert nlp(READ[0])._.trf_data.model_output["last_hidden_state"].dtype == numpy.float32
    unchanged = [name for name, tensor in weights(shim._model).items() if torch.equal(tensor, before[name])]
    assert not [name for name in unchanged if not name.endswith("attention.self.key.bias")]
    assert loss_of(nlp) < first / 4
    assert_learnt(nlp)


@pytest.mark.parametrize("precision", HALF)
def test_adapters_learn_and_the_base_stays(gpu: torch.device, encoder: Path, precision: Any) -> None:
    nlp = pipeline(encoder, precision, lora={"@misc": "spacy-crf-ner.LoRA.v1", "rank": 4, "targets": ["dense"]})
    assert devices(shim_of(nlp)._model) == {gpu}
    before, first = weights(shim_of(nlp)._model), loss_of(nlp)
    train(nlp, 40, rate=0.01)
    after = weights(shim_of(nlp)._model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".lora_" in name}
    assert loss_of(nlp) < first / 2
    expected = emissions(nlp, READ)
    shim_of(nlp).merge_lora()
    assert_close(emissions(nlp, READ), expected)


@pytest.mark.parametrize("precision", [False, "bf16", "fp16"])
def test_gradients_are_those_of_the_cpu(encoder: Path, gpu: torch.device, precision: Any, tmp_path: Path) -> None:
    """Also with the scaler, which takes its factor back."""
    require_cpu()
    nlp = pipeline(encoder, False)
    train(nlp, 2)
    nlp.to_disk(tmp_path)
    nlp.update(examples_from(nlp), sgd=NO_STEP)
    require_gpu()
    overrides = {f"components.{name}.model.mixed_precision": precision for name in ("transformer", "crf_ner")}
    there = spacy.load(tmp_path, config=overrides)
    there.update(examples_from(there), sgd=NO_STEP)
    ours, theirs = gradients(nlp), gradients(there)
    assert ours.keys() == theirs.keys()
    allowed = 0.2 if precision else 0.01
    flat = [torch.cat([found[name].cpu().flatten() for name in ours]) for found in (ours, theirs)]
    assert torch.linalg.norm(flat[1] - flat[0]) < allowed * torch.linalg.norm(flat[0])


@pytest.mark.parametrize("precision", HALF)
def test_gradients_of_updates_add_up_until_the_step(gpu: torch.device, encoder: Path, precision: Any) -> None:
    """Each is scaled and unscaled once."""
    nlp = pipeline(encoder, precision)
    train(nlp, 1)
    found = []
    for _ in range(3):
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        found.append(torch.cat([gradient.flatten() for gradient in gradients(nlp).values()]))
    for times, total in enumerate(found, start=1):
        assert torch.linalg.norm(total - times * found[0]) < 0.01 * torch.linalg.norm(total)


def test_a_step_whose_gradient_overflows_is_left_out(gpu: torch.device, encoder: Path) -> None:
    nlp = pipeline(encoder, "fp16", grad_scaler_config={"init_scale": 1e38})
    before = weights(shim_of(nlp)._model)
    scale = float(shim_of(nlp)._grad_scaler._scale)
    train(nlp, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim_of(nlp)._model).items())
    assert float(shim_of(nlp)._grad_scaler._scale) == scale / 2
    assert all(parameter.isfinite().all() for parameter in head_of(nlp).parameters())


LORA = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 2}
KINDS: Dict[str, Dict[str, Any]] = {
    "full": {},
    "half": {"precision": "bf16"},
    "lora": {"lora": LORA},
    "adapter": {"lora": LORA, "save_mode": "adapter"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_on_a_gpu_loads_on_a_cpu(
    gpu: torch.device, encoder: Path, tmp_path: Path, kind: str
) -> None:
    settings = dict(KINDS[kind])
    nlp = pipeline(encoder, settings.pop("precision", False), **settings)
    train(nlp, 40, rate=0.01)
    nlp.to_disk(tmp_path)
    full = spacy.load(
        tmp_path,
        config={f"components.{name}.model.mixed_precision": False for name in ("transformer", "crf_ner")},
    )
    expected, marked = emissions(full, [*READ, LONG]), [ents(doc) for doc in full.pipe(READ)]
    state = {name: tensor.cpu() for name, tensor in weights(shim_of(nlp)._model).items()}
    require_cpu()
    there = spacy.load(tmp_path)
    assert devices(shim_of(there)._model) == devices(head_of(there)) == {torch.device("cpu")}
    assert all(torch.equal(tensor, state[name]) for name, tensor in weights(shim_of(there)._model).items())
    assert_close(emissions(there, [*READ, LONG]), expected)
    assert [ents(doc) for doc in there.pipe(READ)] == marked
    train(there, 1)
    # Each text has its word-pieces' vectors and its emissions.
    assert_close(in_new_process(tmp_path, [*READ, LONG])[1::2], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_on_a_cpu_loads_on_a_gpu(
    gpu: torch.device, encoder: Path, tmp_path: Path, kind: str
) -> None:
    settings = dict(KINDS[kind])
    precision = settings.pop("precision", False)
    require_cpu()
    nlp = pipeline(encoder, False, **settings)
    train(nlp, 40, rate=0.01)
    nlp.to_disk(tmp_path)
    expected, marked = emissions(nlp, [*READ, LONG]), [ents(doc) for doc in nlp.pipe(READ)]
    require_gpu()
    overrides = {f"components.{name}.model.mixed_precision": precision for name in ("transformer", "crf_ner")}
    there = spacy.load(tmp_path, config=overrides)
    assert devices(shim_of(there)._model) == devices(head_of(there)) == {gpu}
    found = emissions(there, [*READ, LONG])
    if precision:
        for ours, theirs in zip(expected, found, strict=True):
            assert numpy.abs(ours - theirs).max() < 0.1 * numpy.abs(ours).max()
    else:
        assert_close(found, expected)
        assert [ents(doc) for doc in there.pipe(READ)] == marked
    train(there, 1)


def test_a_replaced_listener_predicts_the_same(gpu: torch.device, encoder: Path, tmp_path: Path) -> None:
    nlp = pipeline(encoder, False)
    train(nlp, 40, rate=0.01)
    expected = [ents(nlp(text)) for text in READ]
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    assert [ents(doc) for doc in nlp.pipe(READ)] == expected
    nlp.to_disk(tmp_path)
    assert [ents(doc) for doc in spacy.load(tmp_path).pipe(READ)] == expected
    nlp.resume_training()
    losses = get_pipe(nlp, "crf_ner").rehearse(examples_from(nlp))
    assert losses["crf_ner"] == pytest.approx(0.0, abs=1e-3)


def test_probabilities_are_those_of_the_cpu(gpu: torch.device, encoder: Path, tmp_path: Path) -> None:
    nlp = pipeline(encoder, False)
    train(nlp, 40, rate=0.01)
    nlp.to_disk(tmp_path)
    found = get_pipe(nlp, "crf_ner").predict_scores([nlp(text) for text in READ])
    require_cpu()
    there = spacy.load(tmp_path)
    expected = get_pipe(there, "crf_ner").predict_scores([there(text) for text in READ])
    assert [[span.text for span, _ in doc] for doc in found] == [
        [span.text for span, _ in doc] for doc in expected
    ]
    for ours, theirs in zip(found, expected):
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=0.02)


def arrays(potentials: Potentials) -> List[Any]:
    return list(potentials.arrays)


def test_the_loss_and_its_gradient_are_those_of_the_cpu(gpu: torch.device) -> None:
    lengths = [5, 0, 1, 90, 17]
    here = random_potentials(3, lengths)
    lattices = random_lattices(3, lengths)
    lattices[3][4] = False  # a token out of the sequence
    ops = CupyOps()
    flat: List[Any] = [ops.asarray(x) for x in here.arrays]
    there = Potentials(Ragged(flat[0], here.emissions.lengths), *flat[1:])
    expected, d_expected = negative_log_likelihood(here, lattices)
    loss, d_found = negative_log_likelihood(there, lattices)
    assert loss == pytest.approx(expected, rel=1e-7)
    for ours, theirs in zip(arrays(d_expected), arrays(d_found), strict=True):
        assert isinstance(theirs, ops.xp.ndarray)
        numpy.testing.assert_allclose(ops.to_numpy(theirs), ours, atol=1e-6)


def test_memory_of_both_libraries_comes_from_torch(gpu: torch.device) -> None:
    """`gpu_allocator = "pytorch"`: cupy keeps no memory from torch."""
    set_gpu_allocator("pytorch")
    before = torch.cuda.memory_allocated(gpu)
    size = 1 << 28
    array = CupyOps().xp.zeros((size,), dtype="uint8")
    assert torch.cuda.memory_allocated(gpu) >= before + size
    assert not array.any()

"""What pipelines need of a torch shim beyond Thinc's."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import numpy
import pytest
import torch
from spacy.language import Language
from thinc.api import PyTorchGradScaler

from spacy_crf_ner.training.optimizer import AdamW
from tests.encoder.util import encoder_pipeline, save_encoder, shim_of
from tests.util import NO_STEP, TEXTS, examples_from, get_pipe, optimizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, "bert", hidden_dropout_prob=0.5)
    return folder


def shims(nlp: Language) -> List[Any]:
    return [shim_of(nlp), get_pipe(nlp, "crf_ner").model.get_ref("output_layer").shims[0]]


def gradients_of(nlp: Language, *batches: slice) -> Dict[str, torch.Tensor]:
    """All gradients, after updates of which none is a step."""
    examples = examples_from(nlp)
    for batch in batches:
        nlp.update(examples[batch], sgd=NO_STEP)
    return {
        name: parameter.grad.clone()
        for shim in shims(nlp)
        for name, parameter in shim._model.named_parameters()
        if parameter.grad is not None
    }


def test_scaled_gradients_of_several_updates_add_up(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinc's scaler as it works on a GPU, but for its refusal of tensors on a CPU."""

    def scale(self: Any, tensor: torch.Tensor, scale_per_device: Any, inplace: bool) -> torch.Tensor:
        return tensor.mul_(self._scale) if inplace else tensor * self._scale

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    plain = gradients_of(encoder_pipeline(encoder, transformer_config=still), slice(0, 2), slice(2, 5))
    monkeypatch.setattr(PyTorchGradScaler, "_scale_tensor", scale)
    nlp = encoder_pipeline(encoder, transformer_config=still)
    for shim in shims(nlp):
        shim._grad_scaler._enabled = True
    scaled = gradients_of(nlp, slice(0, 2), slice(2, 5))
    assert scaled.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(scaled[name], gradient, rtol=1e-4, atol=1e-7)


def test_an_overflow_in_one_of_several_updates_skips_the_step(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PyTorchGradScaler, "_scale_tensor", lambda self, t, seen, inplace: t.mul_(self._scale))
    nlp = encoder_pipeline(encoder)
    shim = shim_of(nlp)
    shim._grad_scaler._enabled = True
    gradients_of(nlp, slice(0, 2))
    scale = shim._grad_scaler._scale.clone()
    shim._grad_scaler._scale.fill_(float("inf"))
    gradients_of(nlp, slice(2, 5))
    shim._grad_scaler._scale.copy_(scale)
    before = [parameter.detach().clone() for parameter in shim._model.parameters()]
    shim.finish_update(optimizer())
    left = [parameter.grad for parameter in shim._model.parameters() if parameter.grad is not None]
    assert left and not any(gradient.any() for gradient in left)
    assert all(torch.equal(*pair) for pair in zip(before, shim._model.parameters()))


@pytest.mark.parametrize("earlier", [[], [slice(0, 2)]])
def test_an_error_in_an_update_leaves_the_gradients_of_earlier_ones_alone(
    earlier: List[slice], encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PyTorchGradScaler, "_scale_tensor", lambda self, t, seen, inplace: t.mul_(self._scale))
    nlp = encoder_pipeline(encoder)
    shim = shim_of(nlp)
    shim._grad_scaler._enabled = True
    gradients_of(nlp, *earlier)
    named = dict(shim._model.named_parameters())
    before = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}

    def fail(gradient: torch.Tensor) -> None:
        raise MemoryError

    # The last layer's gradients are there, scaled, when the first layer's fail.
    hook = named["transformer.encoder.layer.0.output.dense.weight"].register_hook(fail)
    with pytest.raises(MemoryError):
        gradients_of(nlp, slice(2, 5))
    hook.remove()
    after = {name: p.grad for name, p in named.items() if p.grad is not None}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


def test_threads_that_predict_do_not_switch_each_others_dropout_on(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    texts = [text for text, _ in TEXTS]

    def vectors(text: str) -> numpy.ndarray:
        return nlp(text)._.trf_data.model_output["last_hidden_state"]

    alone = [vectors(text) for text in texts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(vectors, texts * 20))
    assert all(numpy.array_equal(found, alone[i % len(texts)]) for i, found in enumerate(together))


def test_dropout_is_on_in_training_after_a_prediction(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    model = get_pipe(nlp, "transformer").model
    docs = [nlp.make_doc(TEXTS[0][0])]
    predicted = model.predict(docs).doc_data[0].model_output["last_hidden_state"]
    trained, _ = model.begin_update(docs)
    assert not numpy.allclose(trained.doc_data[0].model_output["last_hidden_state"], predicted, atol=1e-3)


def test_an_optimizer_that_keeps_gradients_gets_them_for_good(encoder: Path) -> None:
    """And steps as one does that gets copies."""
    kept, copied = AdamW(learn_rate=0.01), AdamW(learn_rate=0.01)
    results = []
    for sgd in (kept, lambda key, weights, gradient: copied(key, weights, gradient)):
        nlp = encoder_pipeline(encoder)
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        addresses = {p.grad.data_ptr() for p in shim_of(nlp)._model.parameters() if p.grad is not None}
        for shim in shims(nlp):
            shim.finish_update(sgd)
        if sgd is kept:
            assert all(p.grad is None for p in shim_of(nlp)._model.parameters())
            slots = kept._slots.values()
            assert addresses <= {slot.gradient.data_ptr() for slot in slots if slot.gradient is not None}
        (kept if sgd is kept else copied).step()
        # Nothing of a step is held until the next.
        assert all(slot.gradient is slot.parameter.grad is None for slot in kept._slots.values())
        results.append([p.detach().clone() for shim in shims(nlp) for p in shim._model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*results))

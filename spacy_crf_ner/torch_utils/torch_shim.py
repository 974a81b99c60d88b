"""Thinc's PyTorch shim, corrected where pipelines need it."""

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Tuple

import torch
from thinc.api import ArgsKwargs, Optimizer, PyTorchShim, torch2xp, xp2torch

from spacy_crf_ner.training.protocols import KeepsGradients


class TorchShim(PyTorchShim):
    """A `PyTorchShim` that predicts in many threads, scales gradients that add up, and takes averages of a part of
    its parameters. The wrapped module looks after autocast itself; the shim's `mixed_precision` is to be False."""

    def predict(self, inputs: ArgsKwargs) -> Any:
        """Run the module without dropout and without a tape. It is not set back to training, which would switch
        the dropout on under other threads: `begin_update` does that where it is needed.

        inputs (ArgsKwargs): The module's arguments.
        RETURNS (Any): What the module returns.
        """
        self._model.eval()
        with torch.no_grad():
            return self._model(*inputs.args, **inputs.kwargs)

    def begin_update(self, inputs: ArgsKwargs) -> Tuple[Any, Callable[[ArgsKwargs], Any]]:
        """As `PyTorchShim.begin_update`, whose backward pass unscales every gradient that it finds: those of
        earlier updates of the step, which are unscaled already, are kept out of its sight.

        inputs (ArgsKwargs): The module's arguments.
        RETURNS (Tuple[Any, Callable]): What the module returns, and the backward pass.
        """
        outputs, backprop = super().begin_update(inputs)
        if not self._grad_scaler._enabled:
            return outputs, backprop

        def backprop_and_add(d_outputs: ArgsKwargs) -> Any:
            earlier = [(p, p.grad) for p in self._model.parameters() if p.grad is not None]
            for parameter, _ in earlier:
                parameter.grad = None
            try:
                d_inputs = backprop(d_outputs)
            except BaseException:
                # What there is of this update's gradients is still scaled.
                self._model.zero_grad()
                for parameter, gradient in earlier:
                    parameter.grad = gradient
                raise
            for parameter, gradient in earlier:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
            return d_inputs

        return outputs, backprop_and_add

    def finish_update(self, optimizer: Optimizer) -> None:
        """As `PyTorchShim.finish_update`. An optimizer that keeps gradients gets them for good, and changes the
        weights in their place.

        optimizer (Optimizer): The optimizer.
        """
        if not isinstance(optimizer, KeepsGradients):
            super().finish_update(optimizer)
            return
        for name, parameter in self._model.named_parameters():
            gradient, parameter.grad = parameter.grad, None
            if gradient is not None and not self._grad_scaler.found_inf:
                optimizer.keep((self.id, name), torch2xp(parameter.data), torch2xp(gradient))  # type: ignore
        self._grad_scaler.update()

    @contextmanager
    def use_params(self, params: Dict[Any, Any]) -> Iterator[None]:
        """Swap in averages for the parameters that have them: what does not learn has none.

        params (Dict): Thinc's averages; those of this shim are under `pytorch_{shim id}_{name}`.
        """
        prefix = f"pytorch_{self.id}_"
        named = self._model.named_parameters() if self._model is not None else ()
        own = {name: parameter for name, parameter in named if prefix + name in params}
        kept = {name: parameter.detach().clone() for name, parameter in own.items()}
        try:
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(xp2torch(params[prefix + name], device=parameter.device))
            yield
        finally:
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(kept[name])

"""Recurrent layers of PyTorch, and their parameters as those of `Recurrent`."""

import numpy as np
import torch

KINDS = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def reference_layer(cell, inputs, width, bidirectional=True):
    """A layer with seeded parameters."""
    torch.manual_seed(0)
    return KINDS[cell](inputs, width, batch_first=True, bidirectional=bidirectional)


def parameters_of(layer):
    """The parameters of a layer of PyTorch, as those of `Recurrent`."""
    return _convert(layer, lambda parameter: parameter, lambda b_i, b_h: b_i + b_h)


def gradients_of(layer):
    """The gradients of these parameters, after a backward pass of PyTorch."""
    return _convert(layer, lambda parameter: parameter.grad, lambda b_i, b_h: b_i)


def _convert(layer, read, merge_biases):
    is_gru = isinstance(layer, torch.nn.GRU)
    gates = "rzn" if is_gru else "ifgo"

    def direction(suffix):
        arrays = {
            name: np.split(read(getattr(layer, f"{name}_l0{suffix}")).detach().numpy(), len(gates))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        cells = {}
        for number, gate in enumerate(gates):
            w_i, w_h, b_i, b_h = (arrays[name][number] for name in arrays)
            cells[f"i{gate}"] = {"kernel": w_i.T}
            cells[f"h{gate}"] = {"kernel": w_h.T}
            if gate == "n":  # The reset gate multiplies the bias of the state.
                cells["in"]["bias"], cells["hn"]["bias"] = b_i, b_h
            else:
                cells[f"{'i' if is_gru else 'h'}{gate}"]["bias"] = merge_biases(b_i, b_h)
        return cells

    names = {"forward": ""} | ({"backward": "_reverse"} if layer.bidirectional else {})
    return {name: direction(suffix) for name, suffix in names.items()}

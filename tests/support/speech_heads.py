"""The heads of speech networks in PyTorch, which read one utterance at a time."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.support.recurrent import parameters_of


class Head(nn.Module):
    def of_single(self, states, lengths):
        """The frames of each utterance of a padded batch, without its padding."""
        return self([x[:n] for x, n in zip(states, lengths, strict=True)])

    def batch_statistics(self):
        """Mean and variance of the last input of each batch norm in training, by Flax's name."""
        return {}


class LightHead(Head):
    def __init__(self, states, width):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(states, width, 5, 1, 2)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)

    def forward(self, utterances):
        """Maps utterances [T, D] to frames [T', 2 W]."""
        convolved = [torch.relu(self.conv(x.T[None]))[0].T for x in utterances]
        return [self.gru(x[None])[0][0] for x in convolved]

    def variables(self):
        weight, bias = (x.detach().numpy() for x in (self.conv.weight, self.conv.bias))
        conv = {"kernel": weight.transpose(2, 1, 0), "bias": bias}
        return {"params": {"conv": conv, "gru": parameters_of(self.gru)}}


class DeepSpeechHead(Head):
    """The head of the paper: an image of D rows and T columns, then five LSTMs."""

    def __init__(self, states, width):
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, 32, (41, 11), (2, 2), (20, 5), bias=False),
                nn.Conv2d(32, 32, (21, 11), (2, 1), (10, 5), bias=False),
            ]
        )
        rows = (states + 1) // 2
        self.rows = (rows + 1) // 2
        widths = [32 * self.rows, *[width] * 4]
        self.lstms = nn.ModuleList(
            [nn.LSTM(x, width, batch_first=True, bidirectional=True) for x in widths]
        )
        self.conv_norms = nn.ModuleList([nn.BatchNorm1d(32) for _ in range(2)])
        self.lstm_norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(4)])
        for norm in (*self.conv_norms, *self.lstm_norms):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)

    def forward(self, utterances):
        """Maps utterances [T, D] to frames [T', W]."""
        maps = [x.T[None] for x in utterances]  # [channels, D, T]
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            maps = normalised(norm, [conv(x[None])[0] for x in maps])
            maps = [x.clamp(0, 20) for x in maps]
        frames = [x.flatten(0, 1) for x in maps]  # [features, T']
        for number, lstm in enumerate(self.lstms):
            if number:
                frames = normalised(self.lstm_norms[number - 1], frames)
            states = [lstm(x.T[None])[0][0] for x in frames]
            frames = [sum(x.chunk(2, dim=1)).T for x in states]
        return [x.T for x in frames]

    def norms(self):
        norms = {f"conv_norm_{n}": norm for n, norm in enumerate(self.conv_norms)}
        return norms | {f"lstm_norm_{n}": norm for n, norm in enumerate(self.lstm_norms, start=1)}

    def batch_statistics(self):
        return {name: norm.statistics for name, norm in self.norms().items()}

    def variables(self):
        params = {f"lstm_{n}": parameters_of(lstm) for n, lstm in enumerate(self.lstms)}
        # Flax orders the features of a frame by row, PyTorch by channel.
        order = np.arange(32 * self.rows).reshape(32, -1).T.reshape(-1)
        for direction in params["lstm_0"].values():
            for gate in "ifgo":
                kernel = direction[f"i{gate}"]["kernel"]
                direction[f"i{gate}"] = {"kernel": kernel[order]}
        for number, conv in enumerate(self.convs):
            kernel = conv.weight.detach().numpy().transpose(3, 2, 1, 0)
            params[f"conv_{number}"] = {"kernel": kernel}
        stats = {}
        for name, norm in self.norms().items():
            scale, bias, mean, var = (
                x.detach().numpy().copy()
                for x in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            )
            params[name], stats[name] = {"scale": scale, "bias": bias}, {"mean": mean, "var": var}
        return {"params": params, "batch_stats": stats}


def normalised(norm, maps):
    """The batch norm of arrays [channels, ...] of different sizes, which count as one batch."""
    joined = torch.cat([x.flatten(1) for x in maps], dim=1)
    if norm.training:
        values = joined.detach().numpy()
        norm.statistics = values.mean(axis=1), values.var(axis=1)
        joined = functional.batch_norm(
            joined.T, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
        ).T
    else:
        joined = norm(joined.T).T
    parts = joined.split([x[0].numel() for x in maps], dim=1)
    return [part.reshape(x.shape) for part, x in zip(parts, maps, strict=True)]


HEADS = {"light": LightHead, "deepspeech": DeepSpeechHead}

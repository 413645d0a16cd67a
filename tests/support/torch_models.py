"""The networks of the CIFAR-100 tables in PyTorch, to compare with, and a copy of their weights."""

import itertools

import flax.linen
import jax
import torch
from torch import nn


def conv_bn(before, channels, size=1, stride=1, *, groups=1):
    conv = nn.Conv2d(before, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class Network(nn.Module):
    """A network of a stem, groups of blocks and a classifier.

    A ReLU follows each group, which therefore ends without one.
    """

    def features(self, x):
        """Returns the last pixels, and the features by name."""
        x = torch.relu(self.stem(x))
        features = {"group_0": x}
        for number, group in enumerate(self.groups, start=1):
            before = group(x)
            x = torch.relu(before)
            features |= {f"group_{number}": x, f"group_{number}_preactivation": before}
        return x, features

    def forward(self, x):
        pixels, features = self.features(x)
        pooled = pixels.mean((2, 3))
        return self.head(pooled), {**features, "pooled": pooled}


class WideBlock(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = None
        if before != channels:
            self.shortcut = nn.Conv2d(before, channels, 1, stride, bias=False)

    def forward(self, x):
        self.normalised = self.bn1(x)
        activated = torch.relu(self.normalised)
        y = self.conv2(torch.relu(self.bn2(self.conv1(activated))))
        return y + (self.shortcut(activated) if self.shortcut else x)


class WideResNet(Network):
    def __init__(self, depth, width, classes):
        super().__init__()
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.groups = nn.ModuleList()
        for before, channels, stride in zip(widths, widths[1:], (1, 2, 2), strict=False):
            blocks = [WideBlock(before, channels, stride)]
            blocks += [WideBlock(channels, channels, 1) for _ in range((depth - 4) // 6 - 1)]
            self.groups.append(nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def features(self, x):
        x = self.stem(x)
        features = {"group_0": x}
        for number, group in enumerate(self.groups, start=1):
            x = group(x)
            features[f"group_{number}"] = x
            if number > 1:
                features[f"group_{number - 1}_preactivation"] = group[0].normalised
        y = self.bn(x)
        return torch.relu(y), {**features, "group_3_preactivation": y}


class VGG(Network):
    def __init__(self, convolutions, widths, classes):
        super().__init__()
        self.groups, before = nn.ModuleList(), 3
        for count, channels in zip(convolutions, widths, strict=True):
            group = nn.ModuleList()
            for _ in range(count):
                conv = nn.Conv2d(before, channels, 3, padding=1)
                group.append(nn.Sequential(conv, nn.BatchNorm2d(channels)))
                before = channels
            self.groups.append(group)
        self.head = nn.Linear(before, classes)

    def features(self, x):
        pooled, features = {1, 2, 3, *([4] if x.shape[2] == 64 else [])}, {}
        for number, group in enumerate(self.groups):
            x = nn.functional.max_pool2d(x, 2) if number in pooled else x
            for layer in group:
                before = layer(x)
                x = torch.relu(before)
            features |= {f"group_{number}": x, f"group_{number}_preactivation": before}
        del features["group_0_preactivation"]
        return x, features


class InvertedResidual(nn.Module):
    def __init__(self, before, channels, expansion, stride):
        super().__init__()
        hidden = before * expansion
        self.residual = stride == 1 and before == channels
        self.layers = nn.Sequential(
            *(conv_bn(before, hidden), nn.ReLU()),
            *(conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU()),
            conv_bn(hidden, channels),
        )

    def forward(self, x):
        return self.layers(x) + x if self.residual else self.layers(x)


class MobileNetV2(Network):
    def __init__(self, rows, width, classes):
        super().__init__()
        before = int(32 * width)
        self.stem = conv_bn(3, before, 3, 2)
        self.groups = nn.ModuleList()
        for group in rows:
            blocks = []
            for expansion, channels, count, stride in group:
                for number in range(count):
                    after = int(channels * width)
                    step = stride if number == 0 else 1
                    blocks.append(InvertedResidual(before, after, expansion, step))
                    before = after
            self.groups.append(nn.Sequential(*blocks))
        self.last = conv_bn(before, 1280)
        self.head = nn.Linear(1280, classes)

    def features(self, x):
        x = torch.relu(self.stem(x))
        features = {"group_0": x}
        for number, group in enumerate(self.groups, start=1):
            x = features[f"group_{number}"] = group(x)
        return torch.relu(self.last(x)), features


class GroupedBlock(nn.Module):
    def __init__(self, before, channels, stride, groups, first):
        super().__init__()
        self.stride, self.shuffle = stride, nn.ChannelShuffle(1 if first else groups)
        own = channels - before if stride == 2 else channels
        hidden = own // 4
        self.reduce = conv_bn(before, hidden, groups=1 if first else groups)
        self.depthwise = conv_bn(hidden, hidden, 3, stride, groups=hidden)
        self.expand = conv_bn(hidden, own, groups=groups)

    def forward(self, x):
        y = self.shuffle(torch.relu(self.reduce(x)))
        y = self.expand(torch.relu(self.depthwise(y)))
        return (
            y + x if self.stride == 1 else torch.cat([y, nn.functional.avg_pool2d(x, 3, 2, 1)], 1)
        )


class ShuffleNetV1(Network):
    def __init__(self, widths, blocks, groups, classes):
        super().__init__()
        self.stem, before, self.groups = conv_bn(3, 24), 24, nn.ModuleList()
        for channels, count in zip(widths, blocks, strict=True):
            group = [GroupedBlock(before, channels, 2, groups, first=before == 24)]
            group += [GroupedBlock(channels, channels, 1, groups, False) for _ in range(count - 1)]
            self.groups.append(nn.Sequential(*_with_relus(group)))
            before = channels
        self.head = nn.Linear(before, classes)


def _with_relus(blocks):
    """Yields the blocks with a ReLU after each one but the last."""
    return itertools.chain(*((block, nn.ReLU()) for block in blocks[:-1]), blocks[-1:])


class SplitBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            *(conv_bn(half, half), nn.ReLU()),
            *(conv_bn(half, half, 3, groups=half), conv_bn(half, half)),
        )

    def forward(self, x):
        copied, y = x.chunk(2, 1)
        return shuffled([copied, self.layers(y)])


class DownBlock(nn.Module):
    def __init__(self, before, channels):
        super().__init__()
        half = channels // 2
        self.left = nn.Sequential(
            conv_bn(before, before, 3, 2, groups=before), conv_bn(before, half)
        )
        self.right = nn.Sequential(
            *(conv_bn(before, half), nn.ReLU()),
            *(conv_bn(half, half, 3, 2, groups=half), conv_bn(half, half)),
        )

    def forward(self, x):
        return shuffled([self.left(x), self.right(x)])


def shuffled(halves):
    return torch.stack(halves, 2).flatten(1, 2)


class ShuffleNetV2(Network):
    def __init__(self, widths, blocks, last, classes):
        super().__init__()
        self.stem, before, self.groups = conv_bn(3, 24), 24, nn.ModuleList()
        for channels, count in zip(widths, blocks, strict=True):
            group = [DownBlock(before, channels), *(SplitBlock(channels) for _ in range(count - 1))]
            self.groups.append(nn.Sequential(*_with_relus(group)))
            before = channels
        self.last = conv_bn(before, last)
        self.head = nn.Linear(last, classes)

    def features(self, x):
        x, features = super().features(x)
        return torch.relu(self.last(x)), features


class Bottleneck(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.layers = nn.Sequential(
            *(conv_bn(before, width), nn.ReLU()),
            *(conv_bn(width, width, 3, stride), nn.ReLU()),
            conv_bn(width, 4 * width),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or before != 4 * width:
            self.shortcut = conv_bn(before, 4 * width, 1, stride)

    def forward(self, x):
        return self.layers(x) + self.shortcut(x)


class ResNet50(Network):
    def __init__(self, widths, blocks, classes):
        super().__init__()
        before = widths[0]
        self.stem, self.groups = conv_bn(3, before, 3), nn.ModuleList()
        for width, count, stride in zip(widths, blocks, (1, 2, 2, 2), strict=False):
            group = [Bottleneck(before, width, stride)]
            group += [Bottleneck(4 * width, width, 1) for _ in range(count - 1)]
            self.groups.append(nn.Sequential(*_with_relus(group)))
            before = 4 * width
        self.head = nn.Linear(before, classes)


def randomise(network):
    """Gives all batch norms other scales, biases and statistics than the initial ones."""
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)


def copy_weights(network, module, images):
    """Returns the variables of a Flax module with the weights of a network.

    Both call their layers in the same order.
    """
    kinds = {
        flax.linen.Conv: nn.Conv2d,
        flax.linen.BatchNorm: nn.BatchNorm2d,
        flax.linen.Dense: nn.Linear,
    }
    paths, layers = [], []

    def record_path(call, args, kwargs, context):
        if type(context.module) in kinds and context.method_name == "__call__":
            paths.append((context.module.path, kinds[type(context.module)]))
        return call(*args, **kwargs)

    with flax.linen.intercept_methods(record_path):
        template = jax.eval_shape(module.init, jax.random.key(0), images)

    hooks = [
        layer.register_forward_hook(lambda layer, *_: layers.append(layer))
        for layer in network.modules()
        if type(layer) in kinds.values()
    ]
    with torch.no_grad():
        network.eval()(nchw(images))
    for hook in hooks:
        hook.remove()

    variables = {"params": {}, "batch_stats": {}}
    for (path, kind), layer in zip(paths, layers, strict=True):
        assert type(layer) is kind, path
        for collection, values in _arrays(layer).items():
            if values:
                folder = variables[collection]
                for name in path[:-1]:
                    folder = folder.setdefault(name, {})
                folder[path[-1]] = values
    assert jax.tree.map(lambda x: x.shape, variables) == jax.tree.map(lambda x: x.shape, template)
    return variables


def _arrays(layer):
    def array(tensor):
        return tensor.detach().numpy().copy()

    weight, stats = array(layer.weight), {}
    bias = {} if layer.bias is None else {"bias": array(layer.bias)}
    if isinstance(layer, nn.BatchNorm2d):
        stats = {"mean": array(layer.running_mean), "var": array(layer.running_var)}
        return {"params": {"scale": weight, **bias}, "batch_stats": stats}
    axes = (2, 3, 1, 0) if weight.ndim == 4 else (1, 0)
    return {"params": {"kernel": weight.transpose(axes), **bias}, "batch_stats": stats}


def nchw(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

"""Train the digit network and write it as ONNX. Needs torch; the result is in the repository, the demo does not train.

python examples/digits/train.py            # seconds on two CPU cores, writes digits.onnx beside this file
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from data import to_network, train_and_test
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SEED = 1
EPOCHS = 60  # the test accuracy is flat from about 40 on
CLASSES = 10


class Network(nn.Module):
    """Three convolutions with batch normalization, global pooling, one linear layer: 24,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
            for inputs, outputs in ((1, 16), (16, 32), (32, 64))
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self.blocks):
            x = torch.relu(block(x))
            if number == 1:
                x = nn.functional.max_pool2d(x, 2)
        return self.head(self.dropout(x.mean((2, 3))))


def fit(network: Network, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train in place, each batch moved by up to one pixel."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 6e-3, epochs=EPOCHS, steps_per_epoch=-(-len(images) // 64)
    )
    # Smoothed labels keep the network from absurd certainty, so its probabilities are worth comparing.
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            moved = torch.roll(images[batch], (int(torch.randint(-1, 2, ())), int(torch.randint(-1, 2, ()))), (2, 3))
            loss = loss_of(network(moved), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def to_onnx(network: Network) -> onnx.ModelProto:
    """The trained network, node by node as a framework would export it (batch normalization not folded)."""
    nodes, weights = [], []

    def weight(name: str, tensor: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(tensor.detach().numpy().astype(np.float32), name))
        return name

    value = "image"
    for number, (conv, norm) in enumerate(network.blocks):
        parameters = [weight(f"conv{number}.{part}", getattr(conv, part)) for part in ("weight", "bias")]
        nodes.append(
            helper.make_node(
                "Conv",
                [value, *parameters],
                [f"conv{number}"],
                f"conv{number}",
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
                strides=[1, 1],
            )
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        parameters = [weight(f"norm{number}.{part}", getattr(norm, part)) for part in parts]
        nodes.append(
            helper.make_node(
                "BatchNormalization",
                [f"conv{number}", *parameters],
                [f"norm{number}"],
                f"norm{number}",
                epsilon=norm.eps,
            )
        )
        nodes.append(helper.make_node("Relu", [f"norm{number}"], [f"relu{number}"], f"relu{number}"))
        value = f"relu{number}"
        if number == 1:
            nodes.append(helper.make_node("MaxPool", [value], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]))
            value = "pool"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], "flatten"))
    head = [weight(f"head.{part}", getattr(network.head, part)) for part in ("weight", "bias")]
    nodes.append(helper.make_node("Gemm", ["features", *head], ["logits"], "head", transB=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1))

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, CLASSES])],
        weights,
    )
    model = helper.make_model(
        graph, producer_name="examples/digits/train.py", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("digits.onnx"))
    output = parser.parse_args().output
    torch.manual_seed(SEED)
    train, test = train_and_test()
    network = Network()
    fit(network, torch.from_numpy(to_network(train.images)), torch.from_numpy(train.labels))
    network.eval()
    with torch.no_grad():
        answers = network(torch.from_numpy(to_network(test.images))).argmax(1).numpy()
    output.write_bytes(to_onnx(network).SerializeToString())
    print(
        f"{(answers == test.labels).mean():.1%} of {len(test.labels)} test digits right, {output.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()

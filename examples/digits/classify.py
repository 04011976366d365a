"""Classify the test digits with a network: an ordinary onnxruntime program, which knows nothing of any NPU.

python examples/digits/classify.py digits.onnx answers.npz
"""

import sys

import numpy as np
import onnxruntime as ort
from data import to_network, train_and_test

session = ort.InferenceSession(sys.argv[1])
(image,) = session.get_inputs()

_, test = train_and_test()
answers = []
for digit in to_network(test.images):
    (probabilities,) = session.run(None, {image.name: digit[np.newaxis]})
    answers.append(probabilities[0])

np.savez(sys.argv[2], probabilities=np.stack(answers), providers=session.get_providers())
right = np.mean(np.argmax(answers, axis=1) == test.labels)
print(f"{len(answers)} digits, {right:.1%} right, providers: {', '.join(session.get_providers())}")

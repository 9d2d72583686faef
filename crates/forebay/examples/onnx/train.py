"""Trains a small network on the iris data set and writes it as ONNX: `python train.py` (needs numpy, scikit-learn, onnx)."""

import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

iris = load_iris()
train_x, test_x, train_y, test_y = train_test_split(
    iris.data, iris.target, test_size=0.3, random_state=0, stratify=iris.target
)
scaler = StandardScaler().fit(train_x)
network = MLPClassifier((16,), alpha=0.01, max_iter=5000, random_state=0)
network.fit(scaler.transform(train_x), train_y)
print(f"{network.score(scaler.transform(test_x), test_y):.3f} of the test set are right")

# The scaling of the inputs becomes part of the first layer.
first, second = network.coefs_
bias, last_bias = network.intercepts_
bias = bias - (scaler.mean_ / scaler.scale_) @ first
first = first / scaler.scale_[:, None]


def constant(name, values):
    return numpy_helper.from_array(numpy.asarray(values, dtype=numpy.float32), name)


graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["measures", "first", "bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "second", "last_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ],
    "iris",
    [helper.make_tensor_value_info("measures", TensorProto.FLOAT, ["batch", 4])],
    [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
    [constant("first", first), constant("bias", bias), constant("second", second), constant("last_bias", last_bias)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, pathlib.Path(__file__).parent / "model/iris.onnx")

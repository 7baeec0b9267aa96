"""Models as other programs save them, and images that tell whether they were imported right."""

import numpy as np

SIZE = 32
LABELS = ("cat", "dog")
SETTINGS = {"label_names": LABELS, "color": "RGB", "range": "0-1", "mean": "0", "std": "1", "resize": "crop"}
"""Those of color_model()."""
ULTRALYTICS = {"task": "classify", "imgsz": f"[{SIZE}, {SIZE}]", "names": "{0: 'cat', 1: \"dog\"}", "stride": "1"}
"""The metadata of a file of ultralytics."""


def write_photos(root, per_label=40):
    """Write class folders of images: "cat" is bluish, "dog" is reddish, and both are bright or dark."""
    import cv2

    random = np.random.default_rng(0)
    for label, channel in (("cat", 0), ("dog", 2)):
        (root / label).mkdir(parents=True)
        for number in range(per_label):
            image = random.integers(0, 120, (40, 48, 3))
            image[:, :, channel] += random.integers(10, 100)
            cv2.imwrite(str(root / label / f"{number}.png"), image.clip(0, 255).astype(np.uint8))
    return root


def color_model(
    path, opset=13, end="Identity", batch="N", layout="NCHW", size=SIZE, mean=0.0, props=(), auto_pad="NOTSET"
):
    """Write a classifier of LABELS that compares blue with red; ``mean``: of each channel, what it expects subtracted."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(scale=0.02, size=(32, 3, 3, 3)).astype(np.float32)
    weights[:16, 0] += 0.2
    weights[:16, 2] -= 0.2
    weights[16:, 2] += 0.2
    weights[16:, 0] -= 0.2
    head = np.zeros((2, 32), np.float32)
    head[0, 16:], head[1, :16] = 1, 1
    bias = (weights.sum((2, 3)) * mean).sum(1).astype(np.float32)
    stored = {"w": weights, "b": bias, "v": head, "c": np.zeros(2, np.float32)}
    pads = {"pads": [1, 1, 1, 1]} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    nodes = [
        helper.make_node("Conv", ["planes", "w", "b"], ["x"], strides=[2, 2], kernel_shape=[3, 3], **pads),
        helper.make_node("Relu", ["x"], ["image"]),  # a name that edgeclf's own input has
        helper.make_node("GlobalAveragePool", ["image"], ["z"]),
        helper.make_node("Flatten", ["z"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "c"], ["g"], transB=1),
        helper.make_node(end, ["g"], ["out"]),
    ]
    shape = [batch, 3, size, size]
    name = "planes"
    if layout == "NHWC":
        shape, name = [batch, size, size, 3], "pixels"
        nodes.insert(0, helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]))
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(value, key) for key, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.helper.set_model_props(model, dict(props))
    onnx.save(model, str(path))
    return path


def one_node(kind, shape, stored=(), opset=20, outputs=1, **attributes):
    """Return a model of one operator between a convolution of three channels and the mean of its planes."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    names = [f"s{number}" for number in range(len(stored))]
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["x"]),
        helper.make_node(kind, ["x", *names], [f"y{number}" for number in range(outputs)], **attributes),
        helper.make_node("GlobalAveragePool", ["y0"], ["z"]),
        helper.make_node("Flatten", ["z"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weights, "w"),
            *(numpy_helper.from_array(np.array(value), name) for value, name in zip(stored, names, strict=True)),
        ],
    )
    graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", None]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)

"""What a policy is exported as: each format's writer leaves files in a folder, and answers from them."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from doof_ext import __version__
from doof_ext.deploy import numpy_policy
from doof_ext.deploy.run_policy import RunPolicy
from doof_ext.errors import UserError
from doof_ext.files import publish
from doof_ext.learning.policy import scale_actions

Answer = Callable[[np.ndarray], np.ndarray]
"""observations [B, O] → mean actions [B, A], of a written file."""

Writer = Callable[[str, RunPolicy], tuple[str, Answer]]
"""Writes a policy into a folder; returns its file's name and what that file answers."""

_OPSET, _IR_VERSION = 17, 8  # of 2022: old runtimes read it, and the graph needs nothing newer


def write_numpy(folder: str, policy: RunPolicy) -> tuple[str, Answer]:
    """policy.safetensors, and numpy_policy.py to read it with NumPy alone."""
    content, reader = save(policy.arrays()), resources.files("doof_ext.deploy").joinpath("numpy_policy.py").read_bytes()
    publish(os.path.join(folder, "policy.safetensors"), lambda file: file.write(content))
    publish(os.path.join(folder, "numpy_policy.py"), lambda file: file.write(reader))
    return "policy.safetensors", numpy_policy.load(folder).act


class _MeanAction(nn.Module):
    """The mean action of an actor, with nothing of the kit's classes in it: [B, O] → [B, A]."""

    def __init__(self, policy: RunPolicy) -> None:
        super().__init__()
        self.network = nn.Sequential(policy.actor.backbone.model, policy.actor.dist_net.mu, nn.Tanh())
        for name, bound in zip(("low", "high"), policy.bounds, strict=True):
            self.register_buffer(name, torch.from_numpy(bound))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return scale_actions(self.network(observation), self.low, self.high)  # type: ignore[arg-type]  # buffers


def write_torchscript(folder: str, policy: RunPolicy) -> tuple[str, Answer]:
    """policy.pt, for torch.jit.load and libtorch."""
    path, content = os.path.join(folder, "policy.pt"), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        module = _MeanAction(policy).requires_grad_(False)
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, policy.task.obs_dim)), content)
        publish(path, lambda file: file.write(content.getvalue()))
        loaded = torch.jit.load(path)
    return "policy.pt", lambda observations: loaded(torch.from_numpy(observations)).numpy()


def write_onnx(folder: str, policy: RunPolicy) -> tuple[str, Answer]:
    """policy.onnx, for ONNX runtimes; raises UserError where onnx or onnxruntime is missing."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError("--format onnx needs onnx and onnxruntime: pip install 'doof_ext[deploy]'") from error
    model = _onnx_model(policy.arrays())
    onnx.checker.check_model(model, full_check=True)
    path, content = os.path.join(folder, "policy.onnx"), model.SerializeToString()
    publish(path, lambda file: file.write(content))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return "policy.onnx", lambda observations: session.run(["action"], {"observation": observations})[0]


def _onnx_model(arrays: dict[str, np.ndarray]) -> Any:
    """The mean action's graph: hidden layers, tanh, half range and middle, and the bounds that rounding must keep."""
    from onnx import TensorProto, helper, numpy_helper

    low, high = arrays["action_low"], arrays["action_high"]
    constants = {name: array for name, array in arrays.items() if name.startswith(("hidden.", "mean.", "action_"))}
    constants |= {"middle": (high + low) / 2, "half": (high - low) / 2}
    layers = [
        name.removesuffix(".weight") for name in arrays if name.startswith("hidden.") and name.endswith(".weight")
    ]
    steps: list[tuple[str, list[str]]] = []  # operators, each on the value of the one before it and on constants
    for layer in layers:
        steps += [("Gemm", [f"{layer}.weight", f"{layer}.bias"]), ("Relu", [])]
    steps += [("Gemm", ["mean.weight", "mean.bias"]), ("Tanh", []), ("Mul", ["half"]), ("Add", ["middle"])]
    steps += [("Min", ["action_high"]), ("Max", ["action_low"])]
    values = ["observation", *(f"value.{number}" for number in range(1, len(steps))), "action"]
    nodes = []
    for (kind, inputs), before, after in zip(steps, values[:-1], values[1:], strict=True):
        transposed: dict[str, Any] = {"transB": 1} if kind == "Gemm" else {}
        nodes.append(helper.make_node(kind, [before, *inputs], [after], **transposed))
    widths = {"observation": arrays["hidden.0.weight"].shape[1], "action": len(low)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in widths.items()]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "policy", ends[:1], ends[1:], initializers)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="doof_ext",
        producer_version=__version__,
    )


WRITERS: dict[str, Writer] = {"onnx": write_onnx, "torchscript": write_torchscript, "numpy": write_numpy}
"""The writer of each of FORMATS."""

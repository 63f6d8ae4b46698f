"""A policy that leaves its run: loaded to act, or written where doof_ext is not needed."""

POLICIES = ("finetuned", "pretrained", "exploration")
"""The policies that a run keeps: π*_off, π_off and π_u."""

FORMATS = ("onnx", "torchscript", "numpy")
"""What a policy is exported as."""

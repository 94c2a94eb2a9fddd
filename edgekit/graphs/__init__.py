"""ONNX graphs as they ship: exported from torch, lowered to a recipe's precisions, held against what TensorRT takes.

::

    Pipeline ─► exporting ─► lowering (rewriting, quantization) ─► tensorrt (what it takes, what is promised) ─► model.onnx
    CornerFinder ─► corners ─► corners.onnx or corners.tflite
"""

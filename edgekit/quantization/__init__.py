"""Lower precision for ONNX graphs: 8-bit with calibrated ranges, corrected biases and repair, and float16.

``observing`` runs the calibration films, ``biases`` and ``placement`` rewrite the graph, ``repair`` decides what stays float.
"""

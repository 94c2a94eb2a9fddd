"""Lower precision: 8 bits with calibrated ranges, for ONNX graphs with repair and for Core ML, and how near float16 comes to its end.

``observing`` runs the calibration films, ``equalization``, ``rounding`` and ``placement`` rewrite the graph, ``repair`` decides what stays
float. ``coreml_activations`` observes the networks in torch; ``headroom`` looks at float16.
"""

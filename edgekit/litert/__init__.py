"""An ONNX graph written as a LiteRT file: ``lowering`` walks it, ``operators`` knows each operator, ``file`` holds what is written.

LiteRT's own converters start from another form of the model. This one starts from the graph that `edgekit.rewriting` and
`edgekit.quantization` have made, so that ranges, rounded weights, corrected biases and blocks in float are the same in every file of a run.
Feature maps lie channels last, as LiteRT's kernels read them, from the first convolution to the last.
"""

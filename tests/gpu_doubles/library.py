# ruff: noqa: ARG002  (the arguments are TensorRT's)
"""Stands in for ``tensorrt`` and TensorRT-RTX: onnxruntime is the engine, its tensors lie where `cuda_runtime` put them."""

import ctypes
import os
from pathlib import Path

import numpy as np
import onnxruntime

__version__ = "10.3.0"


class Logger:
    ERROR = 1

    def __init__(self, severity):
        pass


class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED = 1


class ProfilingVerbosity:
    DETAILED = 2


class BuilderFlag:
    TF32 = 6


class LayerInformationFormat:
    JSON = 1


class TensorIOMode:
    INPUT, OUTPUT = 1, 2


def nptype(kind):
    return {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int32)": np.int32}[kind]


class Config:
    def clear_flag(self, flag):
        assert flag == BuilderFlag.TF32


class Builder:
    def __init__(self, logger):
        pass

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return {}

    def create_builder_config(self):
        return Config()

    def build_serialized_network(self, network, config):
        assert config.profiling_verbosity == ProfilingVerbosity.DETAILED
        with Path(os.environ["BUILDS"]).open("a") as file:
            file.write("built\n")
        return network["model"]


class OnnxParser:
    def __init__(self, network, logger):
        self.network = network

    def parse(self, model):
        self.network["model"] = model
        return True


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, content):
        return Engine(content)


class Engine:
    def __init__(self, content):
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.by_name = {tensor.name: tensor for tensor in self.tensors}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return self.tensors[index].name

    def get_tensor_shape(self, name):
        return self.by_name[name].shape

    def get_tensor_dtype(self, name):
        return self.by_name[name].type

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in ("ap", "lateral", "present") else TensorIOMode.OUTPUT

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, format):
        return Path(os.environ["LAYERS"]).read_text()

    def create_execution_context(self):
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def at(self, tensor):
        size = int(np.prod(tensor.shape)) * np.dtype(nptype(tensor.type)).itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[tensor.name])
        return np.frombuffer(memory, nptype(tensor.type)).reshape(tensor.shape)

    def execute_async_v3(self, stream):
        assert stream == 7
        inputs = self.engine.session.get_inputs()
        outputs = self.engine.session.get_outputs()
        found = self.engine.session.run(None, {tensor.name: self.at(tensor) for tensor in inputs})
        for tensor, value in zip(outputs, found, strict=True):
            self.at(tensor)[...] = value
        return True

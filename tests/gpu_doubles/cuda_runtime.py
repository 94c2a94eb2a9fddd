# ruff: noqa: ARG001  (the names and arguments are CUDA's)
"""Stands in for ``cuda.bindings.runtime``: a card made of main memory."""

import ctypes

held = {}


class cudaError_t:
    class cudaSuccess:
        name = "cudaSuccess"


class cudaMemcpyKind:
    cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost = 1, 2


class Properties:
    name, major, minor = b"Test Card" + bytes(8), 8, 6


def cudaMalloc(size):
    buffer = ctypes.create_string_buffer(size)
    held[ctypes.addressof(buffer)] = buffer
    return cudaError_t.cudaSuccess, ctypes.addressof(buffer)


def cudaFree(address):
    del held[address]
    return (cudaError_t.cudaSuccess,)


def cudaStreamDestroy(stream):
    return (cudaError_t.cudaSuccess,)


def cudaMemcpyAsync(to, source, size, kind, stream):
    assert (to if kind == 1 else source) in held, "an address that is not on the card"
    ctypes.memmove(to, source, size)
    return (cudaError_t.cudaSuccess,)


def cudaGetDeviceCount():
    return cudaError_t.cudaSuccess, 1


def cudaGetDeviceProperties(index):
    return cudaError_t.cudaSuccess, Properties


def cudaStreamCreate():
    return cudaError_t.cudaSuccess, 7


def cudaEventCreate():
    return cudaError_t.cudaSuccess, object()


def cudaEventRecord(event, stream):
    return (cudaError_t.cudaSuccess,)


def cudaStreamSynchronize(stream):
    return (cudaError_t.cudaSuccess,)


def cudaEventElapsedTime(start, end):
    return cudaError_t.cudaSuccess, 0.25

"""Constants and types of a program: protobuf messages to numpy arrays and Python values.

A tensor's type is named as in MIL's text form (``float16``, ``int32``, ``uint4`` ...). While a program runs, every floating type is held
in float32 and small or unsigned integers in the smallest torch type that has all their values (`TORCH_TYPES`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.formats.mlpackage import Blobs

NUMPY_TYPES = {
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
    "bfloat16": "float32",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "int4": "int8",
    **{f"uint{bits}": "uint8" for bits in (1, 2, 3, 4, 6)},
}
"""The numpy type that holds a MIL type's values."""
TORCH_TYPES = {
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
    "bfloat16": "float32",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "bool": "bool",
    "int4": "int8",
    **{f"uint{bits}": "uint8" for bits in (1, 2, 3, 4, 6)},
}
"""The torch type that a program's values of a MIL type are computed in."""
SHORT_NAMES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""Types as they are written in string parameters such as a cast's."""
PACKED_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}


def name_type(value_type: Any) -> str:
    """Return the name of a tensor type (``MIL_pb2.ValueType``): ``float16``, ``int32``, ``bool``, ``string`` ..."""
    from coremltools.proto import MIL_pb2

    if (kind := value_type.WhichOneof("type")) != "tensorType":
        return str(kind).removesuffix("Type")
    return str(MIL_pb2.DataType.Name(value_type.tensorType.dataType)).lower()


def read_shape(value_type: Any) -> tuple[int, ...]:
    """Return the shape of a tensor type; -1 for a dimension that is known only at run time."""
    return tuple(int(dimension.constant.size) if dimension.HasField("constant") else -1 for dimension in value_type.tensorType.dimensions)


def read_value(value: Any, blobs: Blobs) -> Any:
    """Decode a ``MIL_pb2.Value``.

    Returns
    -------
    numpy array in the type of `NUMPY_TYPES`, a str (or list of str), or a tuple of such values.

    Raises
    ------
    InputError
        The value is of a kind that a constant can't have, or its bytes do not fit its type.
    """
    if value.HasField("blobFileValue"):
        stored, content = blobs.read(value.blobFileValue.fileName, value.blobFileValue.offset)
        dtype, shape = name_type(value.type), read_shape(value.type)
        if {stored, dtype} not in ({dtype}, {"uint8", "bool"}):
            raise InputError(f"a constant of type {dtype} is stored as {stored}", "the package is damaged: export it again")
        return unpack_bytes(content, dtype, shape)
    immediate = value.immediateValue
    match kind := immediate.WhichOneof("value"):
        case "tensor":
            return _read_tensor(immediate.tensor, name_type(value.type), read_shape(value.type))
        case "tuple" | "list":
            return tuple(read_value(item, blobs) for item in getattr(immediate, kind).values)
    raise InputError(f"a constant of kind {kind} can't be read", "report this, with the model")


def _read_tensor(tensor: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    field = tensor.WhichOneof("value")
    if field == "strings":
        strings = list(tensor.strings.values)
        return strings if shape else strings[0]
    if field == "bytes":
        return unpack_bytes(np.frombuffer(tensor.bytes.values, np.uint8), dtype, shape)
    values = np.array([] if field is None else getattr(tensor, field).values, NUMPY_TYPES[dtype])
    return values.reshape(shape)


def unpack_bytes(content: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Decode raw little-endian bytes; elements of less than 8 bits are packed from the lowest bit upward.

    Raises
    ------
    InputError
        There are not as many bytes as the type and shape ask for.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if dtype in PACKED_BITS:
        return unpack_bits(content, PACKED_BITS[dtype], count, signed=dtype.startswith("int")).reshape(shape)
    if dtype == "bfloat16":  # the upper half of a float32
        values = (content.view("<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = content.view(np.dtype(NUMPY_TYPES[dtype]).newbyteorder("<"))
    if values.size != count:
        raise InputError(f"a constant of shape {shape} has {values.size} values", "the package is damaged: export it again")
    return values.reshape(shape)


def unpack_bits(content: NDArray[np.uint8], bits: int, count: int, *, signed: bool = False) -> NDArray[Any]:
    """Return `count` integers of `bits` bits each, packed from the lowest bit of the first byte upward.

    Raises
    ------
    InputError
        There are too few bytes.
    """
    stream = np.unpackbits(content, bitorder="little")[: bits * count]
    if stream.size != bits * count:
        raise InputError(f"{count} values of {bits} bits do not fit {content.size} bytes", "the package is damaged: export it again")
    values = stream.reshape(count, bits) @ (1 << np.arange(bits, dtype=np.uint8))
    if signed:
        return np.where(values >= 1 << (bits - 1), values.astype(np.int8) - (1 << bits), values).astype(np.int8)
    return values.astype(np.uint8)

"""Ask the processor itself what it has, and not the system: under ``qemu-user`` the system is the host's.

    python probe.py            prints {"architecture": ..., "features": [...], "flags": [...]}

It runs inside the emulator, where there may be no edgekit: only the standard library is imported. ``features`` are those of
`edgekit.processors.FEATURES` in their order, ``flags`` all that Linux would list of an ARM core.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import platform

CPUID = bytes.fromhex("53 4989d0 89f8 89f1 0fa2 418900 41895804 41894808 4189500c 5b c3")
"""cpuid(edi: leaf, esi: subleaf, rdx: where eax, ebx, ecx, edx go), in the calling convention of System V."""

X86 = {
    "sse4_1": (1, 0, 2, 19),
    "avx2": (7, 0, 1, 5),
    "avx_vnni": (7, 1, 0, 4),
    "avx512bw": (7, 0, 1, 30),
    "avx512_vnni": (7, 0, 2, 11),
    "amx_int8": (7, 0, 3, 25),
}
"""Leaf, subleaf, register and bit (Intel, *Software Developer's Manual*, volume 2, CPUID)."""

ARM = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve "
    "asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
"""Bits of AT_HWCAP from 0 on (Linux, ``arch/arm64/include/uapi/asm/hwcap.h``)."""

AT_HWCAP, AT_HWCAP2, HWCAP2_I8MM = 16, 26, 13


def ask_x86() -> list[str]:
    """Execute CPUID, and return the features."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(CPUID)
    registers = (ctypes.c_uint32 * 4)()
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def ask(leaf: int, subleaf: int) -> tuple[int, ...]:
        call(leaf, subleaf, ctypes.addressof(registers))
        return tuple(registers)

    leaves, subleaves = ask(0, 0)[0], ask(7, 0)[0]
    found = []
    for name, (leaf, subleaf, register, bit) in X86.items():
        exists = leaf <= leaves and (leaf, subleaf) <= (leaf, subleaves if leaf == 7 else 0)
        if exists and ask(leaf, subleaf)[register] >> bit & 1:
            found.append(name)
    return found


def ask_arm() -> tuple[list[str], list[str]]:
    """Read the auxiliary vector, and return the features and all flags."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    bits = getauxval(AT_HWCAP)
    flags = [name for bit, name in enumerate(ARM.split()) if bits >> bit & 1]
    if getauxval(AT_HWCAP2) >> HWCAP2_I8MM & 1:
        flags.append("i8mm")
    return [name for name in ("asimd", "asimddp", "i8mm") if name in flags], flags


def main() -> None:
    """Print what the processor says."""
    architecture = platform.machine()
    features, flags = (ask_x86(), []) if architecture == "x86_64" else ask_arm()
    print(json.dumps({"architecture": architecture, "features": features, "flags": flags}))


if __name__ == "__main__":
    main()

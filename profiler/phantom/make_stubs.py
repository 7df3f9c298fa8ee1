"""Writes one weak stub for every function of the CUDA libraries that the torch wheel imports.

Weak, so that a function implemented by hand in the same library simply replaces its stub. What a stub
answers follows from the function's declaration in the wheel's headers:

- one that only launches work or changes a setting does nothing, and that is its right answer;
- one that must fill in something has no answer: it is counted, and fails with "not supported";
- any other succeeds and is counted.
"""

import argparse
import re
import subprocess
from pathlib import Path

# Library: prefix of its functions, status for "not supported" in its own numbering, headers.
LIBRARIES = {
    "cudart": (r"(?:__)?cuda[A-Z]\w*", 801, ["cuda_runtime_api.h"]),
    "cublas": (r"cublas(?!Lt)\w+", 15, ["cublas_api.h", "cublas_v2.h"]),
    "cublasLt": (r"cublasLt\w+", 15, ["cublasLt.h"]),
    "cudnn": (r"cudnn\w+", 4000, ["cudnn_graph.h", "cudnn_ops.h", "cudnn_cnn.h", "cudnn_adv.h"]),
    "cufft": (r"cufft\w+", 16, ["cufft.h", "cufftXt.h"]),
    "cusolver": (r"cusolver\w+", 9, ["cusolver_common.h", "cusolverDn.h"]),
    "cusparseLt": (r"cusparseLt\w+", 10, []),
    "cusparse": (r"cusparse(?!Lt)\w+", 10, ["cusparse.h"]),
    "nccl": (r"nccl\w+", 5, ["nccl.h"]),
    "driver": (r"cu[A-Z]\w+", 801, ["cuda.h"]),
}

# Launches of work whose results are values in device memory, settings that only concern how such
# work runs, and the end of objects that are mere numbers here.
INERT = re.compile(
    r"""
    cublas[SDCZH](gemm|gemv|ger|geru|gerc|dot|axpy|scal|copy|swap|symm|symv|syr|syr2|syr2k|syrk|hemm|hemv
      |her|her2|her2k|herk|trmm|trmv|trsm|trsv|sscal|dscal)\w*
    | cublas(Gemm|Sgemm|Dot)\w*Ex | cublas(Zdscal|Csscal)_v2
    | cublasSet(MathMode|PointerMode_v2|Stream_v2|Workspace_v2) | cublasDestroy_v2
    | cublas[SDCZ](ge(trf|trs)|gemm|trsm)\w*Batched
    | cublasLtMatmul | cublasLt\w+Destroy | cublasLt\w+SetAttribute
    | cudnnDestroy\w* | cudnnSetStream | cudnnBatchNormalization\w+
    | cudaProfiler(Start|Stop) | cudaLaunch(Kernel|KernelExC|CooperativeKernel)
    | cuLaunch(Kernel|KernelEx|CooperativeKernel) | cuFuncSet(Attribute|CacheConfig)
    | cuModuleUnload | cuCtxSetCurrent | cuMemsetD\w+Async | cuStreamWriteValue32\w*
    | cuProfiler(Start|Stop)
    """,
    re.VERBOSE,
)

PROLOGUE = """// Written by make_stubs.py from the imports of the installed torch wheel.
#include "unanswered.hpp"
"""

INERT_STUB = 'extern "C" __attribute__((weak)) int {name}() {{ return 0; }}\n'
COUNTED_STUB = """extern "C" __attribute__((weak)) int {name}() {{
  static tidemark::phantom::Unanswered call("{name}");
  return call.reached({status});
}}
"""
TEXT_STUB = """extern "C" __attribute__((weak)) const char* {name}() {{
  return "an error of the phantom GPU";
}}
"""


def imported_functions(torch_folder, pattern):
    """Everything that the wheel's libraries take from a library whose functions look like that."""
    imported = re.compile(rf"\bU ({pattern})(?:@\S*)?$", re.MULTILINE)
    names = set()
    for library in sorted((torch_folder / "lib").glob("lib*.so")):
        command = ["nm", "-D", "--undefined-only", library]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        names.update(imported.findall(output))
    return names


def declarations(texts):
    """name -> (returned type, parameters) of every function declared in the headers."""
    found = {}
    declaration = re.compile(
        r"([\w\s\*]+?)\s*\b(?:\w+API\s+|__host__\s+|__cudart_builtin__\s+)*(\w+)\s*\(([^()]*)\)\s*;"
    )
    for text in texts:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
        text = re.sub(r"^\s*#.*(?:\\\n.*)*$", " ", text, flags=re.MULTILINE)
        for returned, name, parameters in declaration.findall(text):
            found.setdefault(name, (" ".join(returned.split()), " ".join(parameters.split())))
    return found


def must_fill_in(parameters):
    """Whether some parameter is a pointer through which an answer is to be written."""
    return any(
        "*" in parameter and not re.search(r"\bconst\b[^*]*\*(?!.*\*)", parameter)
        for parameter in parameters.split(",")
    )


def stub(name, status, declared):
    base = re.sub(r"_v\d+$|_ptsz$", "", name)
    returned, parameters = declared.get(name) or declared.get(base) or ("", "void*")
    if "char" in returned:
        return TEXT_STUB.format(name=name)
    if INERT.fullmatch(name):
        return INERT_STUB.format(name=name)
    return COUNTED_STUB.format(name=name, status=status if must_fill_in(parameters) else 0)


def find_headers(site_packages, names):
    return [
        next(iter(sorted(site_packages.glob(f"nvidia/*/include/{name}")))) for name in names
    ]


def driver_functions(header_text):
    # The older spellings of versioned functions only occur in macros: every word that looks like a
    # function; a stub too many does no harm.
    return set(re.findall(r"\bcu[A-Z]\w+", header_text))


def write_library(output, library, names, declared):
    status = LIBRARIES[library][1]
    with output.open("a") as file:
        file.writelines(stub(name, status, declared) for name in sorted(names))


def write_exports(path, names):
    path.write_text(
        "{\n  global:\n"
        + "".join(f"    {name};\n" for name in sorted(names))
        + "    tidemark_phantom_*;\n  local: *;\n};\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", type=Path, required=True, help="folder of the torch package")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    # Which of our libraries stands in for which of NVIDIA's.
    outputs = {"runtime": [], "nccl": ["nccl"], "driver": ["driver"]}
    outputs["runtime"] = [name for name in LIBRARIES if name not in ("nccl", "driver")]
    for output, libraries in outputs.items():
        source = arguments.output / f"{output}_stubs.cpp"
        source.write_text(PROLOGUE)
        exported = set()
        for library in libraries:
            pattern, _, headers = LIBRARIES[library]
            texts = [h.read_text() for h in find_headers(arguments.torch.parent, headers)]
            names = imported_functions(arguments.torch, pattern)
            if library == "driver":
                names |= driver_functions(texts[0])
            write_library(source, library, names, declarations(texts))
            exported |= names
        write_exports(arguments.output / f"{output}_exports.map", exported)
        print(f"{source.name}: {len(exported)} functions")


if __name__ == "__main__":
    main()

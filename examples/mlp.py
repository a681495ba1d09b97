"""The smallest model file: `xcompile examples/mlp.py -o out`, then `xcompile run out --check`.

`model` and `inputs` are all that is needed. A text in `dynamic_shapes` names a dim that may vary:
`--dynamic batch=1:64` gives its range.
"""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10), nn.Softmax(-1)).eval()
inputs = (torch.randn(4, 64),)
dynamic_shapes = ({0: "batch"},)

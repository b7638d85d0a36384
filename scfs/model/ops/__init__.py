"""Operations with a fast form: CPU kernels, BatchNorm over several processes, and the switches for GPUs.

The rest of the package imports the names below from here, and nothing from the modules behind them.
"""

from scfs.model.ops.activation_checkpointing import checkpointed
from scfs.model.ops.batch_norm import folded_batch_norm, synchronize_batch_norm
from scfs.model.ops.compile import compile_backbone, compile_errors
from scfs.model.ops.convolution import conv1x1_with_residual, conv2d
from scfs.model.ops.prototype_loss import prototype_cross_entropy, row_norms
from scfs.model.ops.relu import add_relu_, relu_
from scfs.model.ops.side_stream import SideStream

__all__ = [
    "SideStream",
    "add_relu_",
    "checkpointed",
    "compile_backbone",
    "compile_errors",
    "conv1x1_with_residual",
    "conv2d",
    "folded_batch_norm",
    "prototype_cross_entropy",
    "relu_",
    "row_norms",
    "synchronize_batch_norm",
]

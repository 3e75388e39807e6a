"""The operations of StyleGAN2 that torch does not have: `upfirdn2d`, `bias_act`, and what ends a layer or a resolution.

All are differentiable twice and run on any device. The reference is plain torch; `loader` decides, when a CUDA tensor
first arrives, whether compiled kernels take over. Importing needs no compiler, no ninja and no CUDA.
"""

from stylegan2_ops import operators  # declares torch.ops.stylegan2_ops
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.epilogue import layer_epilogue, scale_channels
from stylegan2_ops.to_rgb import epilogue_to_rgb
from stylegan2_ops.upfirdn2d import upfirdn2d

__all__ = ["bias_act", "epilogue_to_rgb", "layer_epilogue", "operators", "scale_channels", "upfirdn2d"]

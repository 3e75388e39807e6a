"""Command lines of training: pSp's own, and what scripts/train.py answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from psp.errors import UserError

SKETCH_COMMAND = """--dataset_type=celebs_sketch_to_face --exp_dir=/path/to/experiment --workers=8 --batch_size=8
    --test_batch_size=8 --test_workers=8 --val_interval=2500 --save_interval=5000 --encoder_type=GradualStyleEncoder
    --start_from_latent_avg --lpips_lambda=0.8 --l2_lambda=1 --id_lambda=0 --w_norm_lambda=0.005 --label_nc=1
    --input_nc=1"""
# every option of pSp's train_options.py, with a value of its type
PSP_FLAGS: dict[str, str] = {
    "exp_dir": "out", "dataset_type": "ffhq_encode", "encoder_type": "GradualStyleEncoder", "input_nc": "3",
    "label_nc": "0", "output_size": "1024", "batch_size": "8", "test_batch_size": "8", "workers": "8",
    "test_workers": "8", "learning_rate": "0.0001", "optim_name": "ranger", "train_decoder": "True",
    "start_from_latent_avg": "", "learn_in_w": "", "lpips_lambda": "0.8", "id_lambda": "0.1", "l2_lambda": "1",
    "w_norm_lambda": "0.005", "lpips_lambda_crop": "0.8", "l2_lambda_crop": "0.01", "moco_lambda": "0.5",
    "stylegan_weights": "sg.pt", "checkpoint_path": "c.pt", "max_steps": "500000", "image_interval": "100",
    "board_interval": "50", "val_interval": "1000", "save_interval": "5000", "use_wandb": "false",
    "resize_factors": "1,2,4,8,16,32",
}  # fmt: skip

Train = Callable[..., int]


def mistake(run: Train, *argv: object) -> str:
    with pytest.raises(UserError) as caught:
        run(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)

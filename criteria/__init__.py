"""Losses and metrics: LPIPS, identity, MoCo, W-norm, and the weighted pSp objective."""

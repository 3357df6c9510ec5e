"""``rl_nnunet_report``: overlap and distances of segmentations, as tables and as one page."""

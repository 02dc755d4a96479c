"""Pretrained models: reading, converting to MoE, running, exporting."""

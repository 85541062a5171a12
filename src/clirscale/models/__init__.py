"""Pretrained backbones, the dual encoder made of one, and its masked language model."""

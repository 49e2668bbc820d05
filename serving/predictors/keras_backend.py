"""Keras with its backend chosen before the first import: import `keras` from here, never directly.

Ours is PyTorch, which the servers have anyway; an operator who sets KERAS_BACKEND (say, to tensorflow) keeps it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

__all__ = ["keras"]

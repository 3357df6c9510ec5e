"""Phantom data sets: deterministic synthetic anatomy with exact labels, laid out as the public data sets ship it.

``heart`` has the Python API for arrays made on the fly; ``make_phantom`` is the command ``rl_nnunet_make_phantom``.
"""

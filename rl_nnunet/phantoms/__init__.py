"""Phantom data sets: deterministic synthetic anatomy with exact labels, laid out as the public data sets ship it.

``heart`` and ``head`` hold one organ each, the modules beside them what both are made of, and ``make_phantom`` is the
command ``rl_nnunet_make_phantom``.
"""

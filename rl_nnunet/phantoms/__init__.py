"""Phantom data sets: deterministic synthetic anatomy with exact labels, laid out as the public data sets ship it.

``heart`` and ``head`` make arrays, ``dataset`` and ``brats_dataset`` write whole data sets, and ``make_phantom`` is the
command ``rl_nnunet_make_phantom``.
"""

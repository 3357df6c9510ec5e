"""The phantom head with a tumor: ``cases`` makes arrays, ``dataset`` writes a data set laid out as BraTS."""

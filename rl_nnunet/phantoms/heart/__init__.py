"""The phantom heart in CT and MR: ``cases`` makes arrays, ``dataset`` writes a data set laid out as MM-WHS 2017."""

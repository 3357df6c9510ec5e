"""From nnU-Net's plans to the arguments of our networks, and whether plans and data set fit each other."""

"""What turns an nnU-Net trainer into one with agents, absent channels or a network of ours: a mixin each."""

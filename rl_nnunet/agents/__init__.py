"""What trains policies: the interface of an agent, PPO, rewards, and our agents; knows nothing of nnU-Net."""

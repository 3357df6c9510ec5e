"""Give a trained model to others."""

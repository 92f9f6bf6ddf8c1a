"""Training steps compiled for absent TPU pods, and what the executable says of them."""

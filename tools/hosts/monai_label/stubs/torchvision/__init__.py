"""What MONAI Label and transformers import of torchvision, which has no build for torch without CUDA."""

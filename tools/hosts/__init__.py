"""The hosts that run packed bundles: their environments and what connects them with a bundle."""

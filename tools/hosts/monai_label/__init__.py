"""MONAI Label: its environment, and its server with packed bundles."""

"""Components that every text-guided segmentation bundle shares."""

__version__ = "0.1.0"

"""Reading of videos: transformers imports the name, segmentation does not use it."""

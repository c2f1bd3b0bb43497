"""A MONAI Deploy application: a DICOM study and a sentence in, a segmentation and its report out."""

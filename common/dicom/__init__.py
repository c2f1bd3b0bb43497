"""DICOM files: reading their pixels as a viewer shows them."""

from __future__ import annotations

from .reading import DicomPixels, is_dicom, read_dicom_pixels

__all__ = ["DicomPixels", "is_dicom", "read_dicom_pixels"]

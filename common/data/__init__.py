"""Data lists, splits and phantoms."""

from __future__ import annotations

from .datalist import load_datalist, load_labelled_split, read_datalist, verify_files
from .dataset import CaseDataset, CaseLoader, TolerantDataset, load_cases
from .domain_loader import DomainLoader
from .domains import (
    DIRECTIONS,
    DOMAINS,
    MODALITIES,
    load_domain_cases,
    load_oracle_cases,
    load_target_cases,
    load_validation_cases,
    modalities_of,
)
from .named_case import single_case
from .semi_supervised import SemiSupervisedLoader, labelled_cases, unlabelled_cases
from .slices import SliceDataset
from .splits import (
    SECTIONS,
    draw_subset,
    labelled_unlabelled_split,
    random_sections,
    subset_in_file_order,
    subset_in_name_order,
)
from .spoken import spoken_cases
from .volume_cases import single_volume

__all__ = [
    "DIRECTIONS",
    "DOMAINS",
    "MODALITIES",
    "SECTIONS",
    "CaseDataset",
    "CaseLoader",
    "DomainLoader",
    "SemiSupervisedLoader",
    "SliceDataset",
    "TolerantDataset",
    "draw_subset",
    "labelled_cases",
    "labelled_unlabelled_split",
    "load_cases",
    "load_datalist",
    "load_domain_cases",
    "load_labelled_split",
    "load_oracle_cases",
    "load_target_cases",
    "load_validation_cases",
    "modalities_of",
    "random_sections",
    "read_datalist",
    "single_case",
    "single_volume",
    "spoken_cases",
    "subset_in_file_order",
    "subset_in_name_order",
    "unlabelled_cases",
    "verify_files",
]

"""Segmenting with a bundle from Python: an image and a sentence in, a mask and its measures out.

```python
from common.inference import load_bundle
segmenter = load_bundle("bundles/ssa_segmentation")
result = segmenter("chest.png", "Unilateral pulmonary infection, one infected area, lower left lung.")
print(result.save("output"))
```
"""

from __future__ import annotations

from .bundle import load_bundle
from .contradiction import contradiction_score, contradiction_scores
from .info import BundleInfo
from .measuring import CONVENTIONS, CaseMeasures, class_volumes, measures
from .output import save
from .preparation import CasePreparation
from .preview import preview
from .result import Segmentation
from .segmenter import Segmenter
from .sentences import FoundSentence, sentence_for_file

__all__ = [
    "CONVENTIONS",
    "BundleInfo",
    "CaseMeasures",
    "CasePreparation",
    "FoundSentence",
    "Segmentation",
    "Segmenter",
    "class_volumes",
    "contradiction_score",
    "contradiction_scores",
    "load_bundle",
    "measures",
    "preview",
    "save",
    "sentence_for_file",
]

"""Start of the application: ``python app -i STUDY -o OUTPUT -m BUNDLE --text SENTENCE``."""

from __future__ import annotations

import sys

from guided_segmentation.starting import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

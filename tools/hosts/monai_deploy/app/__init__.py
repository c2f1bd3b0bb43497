"""What a MONAI Application Package holds: run this folder with ``python app -i STUDY -o OUTPUT -m BUNDLE``."""

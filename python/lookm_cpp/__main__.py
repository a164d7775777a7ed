"""``python -m lookm_cpp`` is ``lookm``."""

import sys

from lookm_cpp.cli import main

if __name__ == "__main__":
    sys.exit(main())

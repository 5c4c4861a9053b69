"""``python -m chatterbox_server`` is the ``chatterbox-server`` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

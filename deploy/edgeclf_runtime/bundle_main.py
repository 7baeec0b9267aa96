"""Starts the runtime that lies beside this file: ``python3 NAME.edge COMMAND``."""

import os
import sys

# Byte code written here would be a file that the manifest does not know.
sys.dont_write_bytecode = True

from edgeclf_runtime.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(bundle=os.path.dirname(os.path.abspath(__file__))))

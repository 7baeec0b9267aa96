"""Subcommands of ``edgeclf``, each a thin layer over the public function of the same name.

Heavy modules are imported inside the functions, so that --help is fast.
"""

from . import data, training, evaluation, quantization, deployment, lists  # noqa: F401, I001 - the order of --help

"""Fine-tunes a network to its own quantization: the weights that lose least on a flavor's INT8 grid."""

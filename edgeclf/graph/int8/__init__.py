"""Q/DQ graphs: ranges of activations, rounding of weights, and the operators that compute in 8 bits."""

"""A small backbone, timm's checkpoint of it on the hub, and its form as a folder."""

SMALL = "mobilenetv3_small_050"
REPOSITORY = "timm/mobilenetv3_small_050.lamb_in1k"
FLAT = {"architecture": SMALL, "num_classes": 1000, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
"""The config.json of a folder of timm's older form, with all in one level."""


def same(network, backbone):
    """Return whether a network has a backbone's weights, except for its head."""
    import torch

    own, state = network.backbone.state_dict(), backbone.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items() if not name.startswith("classifier"))

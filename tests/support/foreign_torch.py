"""A classifier in torch, as another program would give it."""

import torch


class Colors(torch.nn.Module):
    """color_model() in torch, with its head in a convolution."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.body[0].weight[:4] = torch.tensor([0.2, 0.0, -0.2]).view(3, 1, 1)
            self.body[0].weight[4:] = torch.tensor([-0.2, 0.0, 0.2]).view(3, 1, 1)
            self.head.weight[:] = torch.tensor([[0.0] * 4 + [1.0] * 4, [1.0] * 4 + [0.0] * 4])

    def forward(self, pixels):
        return self.head(self.body(pixels).mean((2, 3)))

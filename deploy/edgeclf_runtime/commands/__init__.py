"""The device's commands, one module or package each."""

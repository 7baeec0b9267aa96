"""Learning from another network (distillation), and from images that only it has labels for."""

"""Health: compares what the camera sees with the training images, and says in words what has changed."""

"""Actions at the events of labels: pictures, messages, programs."""

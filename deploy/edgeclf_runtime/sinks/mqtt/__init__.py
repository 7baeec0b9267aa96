"""Results on an MQTT broker."""

"""Publishes results to an MQTT broker."""

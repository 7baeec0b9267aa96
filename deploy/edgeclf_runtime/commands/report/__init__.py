"""``report``: measures what this machine can do, and writes one file to send on."""

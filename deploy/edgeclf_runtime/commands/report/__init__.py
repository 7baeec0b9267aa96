"""``report``: what this machine can do, in one file to send on."""

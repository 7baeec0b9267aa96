"""Restrictions that the capture process puts on itself: files, ports, system calls, memory."""

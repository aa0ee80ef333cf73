"""Debian's own servers, started by a test for itself: private folder, unix socket, a free port of the loopback.

One module a server. None is started as root, none outlives its test, and each is stopped by its process id.
"""

"""The command line: reads options, calls the program, prints results.

Results go to stdout, everything else to stderr. Nothing is decided here that the daemon would decide otherwise.
"""

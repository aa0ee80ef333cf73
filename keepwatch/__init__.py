"""The program: command line, daemon loop, scheduler, web page, metrics.

The composition root: it alone owns the clock, threads, signals and child processes.
"""

__version__ = "0.1.0"

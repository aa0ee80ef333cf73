"""The program: command line, daemon loop, scheduler, web page, metrics. The composition root; owns clock, threads, signals."""

"""The command line: the only place that prints or reads arguments."""

import gc

# What is imported stays: looking through it for garbage every few hundred objects is a tenth of the
# time of a short command.
gc.set_threshold(50_000)

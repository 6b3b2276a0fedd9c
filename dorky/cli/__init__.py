"""The command line: the only package that prints or reads arguments."""

import gc

# Imported modules stay, so searching them for garbage every few hundred objects would waste a
# tenth of a short command's time.
gc.set_threshold(50_000)

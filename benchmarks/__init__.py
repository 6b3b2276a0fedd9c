"""dorky measured against what people would pick instead: `python3 dev.py bench --peers`."""

"""What is kept on this machine: the database, packs, objects, history."""

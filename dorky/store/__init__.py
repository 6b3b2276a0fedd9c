"""The local store: the database, packs, objects and history that this machine keeps."""

"""Keys and their holders: age, SSH and KMS keys, a repository's keys, members and groups."""

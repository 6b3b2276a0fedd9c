"""Keys and who has them: age, SSH and KMS keys, a repository's keys, members and groups."""

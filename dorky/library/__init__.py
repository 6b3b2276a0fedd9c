"""What a client does with a remote repository, without a worktree. `dorky.client` is its face."""

"""What a file is, told from its bytes: never from its name. `head` needs the first 64 KiB, `identify` the file."""

"""What a backend writes and a session reads back: the files of other people's runtimes, and what opens them."""

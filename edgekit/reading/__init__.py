"""People read the films too: a blinded sheet for them, with the designs illustrated, and their answers put together."""

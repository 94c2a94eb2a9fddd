"""The version, where every room can read it without asking for the whole package."""

VERSION = "0.1.0"

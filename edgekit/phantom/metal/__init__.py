"""Implants, the constructs made of them, and all the other metal that films show."""

"""Closed meshes, and how long a ray is inside them."""

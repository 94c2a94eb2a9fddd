"""A patient without metal: spine, skeleton, soft tissue."""

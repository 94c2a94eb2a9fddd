"""Torch modules of the pipeline: detector, cropper, classifier, ensemble, and the pipeline itself."""

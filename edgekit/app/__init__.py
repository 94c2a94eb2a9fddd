"""The phone app's server: the files of ``sample_app/public`` and one bundle, on this machine or, over HTTPS, on the local network."""

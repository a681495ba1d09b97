"""The Ascend C simulator: build and run kernels on this machine, with checks."""

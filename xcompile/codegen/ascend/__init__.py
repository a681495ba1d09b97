"""Graph -> Ascend C: phases (device functions), kernels that run them, the host program."""

#pragma once
#error "the Conv3D API is not modelled by the simulator"

#pragma once
#error "the collective communication API (HCCL) is not modelled by the simulator"

# find_package(ASC): CMake projects of Ascend C build for the simulator as they are.
#   ASC_DIR=<this folder> cmake ..      then project(... LANGUAGES ASC CXX) uses `xcompile simcc`
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
set(ASC_FOUND TRUE)
if(NOT DEFINED CMAKE_ASC_ARCHITECTURES)
  set(CMAKE_ASC_ARCHITECTURES "dav-2201")
endif()
# Host sources of the same project see the simulator's acl/acl.h.
include_directories(SYSTEM "${CMAKE_CURRENT_LIST_DIR}/../include")

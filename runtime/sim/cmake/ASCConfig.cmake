# find_package(ASC): CMake projects of Ascend C build for the simulator as they are.
#   ASC_DIR=$(xcompile simcc --home)/cmake cmake ..
# project(... LANGUAGES ASC CXX) then compiles and links with `xcompile simcc`.
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
set(ASC_FOUND TRUE)
if(NOT DEFINED CMAKE_ASC_ARCHITECTURES)
  set(CMAKE_ASC_ARCHITECTURES "dav-2201")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/FindSimcc.cmake")
execute_process(COMMAND ${ASCSIM_SIMCC} --home OUTPUT_VARIABLE ASCSIM_HOME
                OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE ascsim_result)
if(ascsim_result)
  message(FATAL_ERROR "xcompile simcc --home failed")
endif()
# Host sources of the same project see acl/acl.h and link -lascendcl and the like.
include_directories(SYSTEM "${ASCSIM_HOME}/include")
link_directories("${ASCSIM_HOME}/lib64")
list(APPEND CMAKE_BUILD_RPATH "${ASCSIM_HOME}/lib64")

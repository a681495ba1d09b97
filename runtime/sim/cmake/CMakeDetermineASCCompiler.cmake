include("${CMAKE_CURRENT_LIST_DIR}/FindSimcc.cmake")
list(GET ASCSIM_SIMCC 0 CMAKE_ASC_COMPILER)
set(ascsim_rest "${ASCSIM_SIMCC}")
list(REMOVE_AT ascsim_rest 0)
list(JOIN ascsim_rest " " CMAKE_ASC_COMPILER_ARG1)
configure_file("${CMAKE_CURRENT_LIST_DIR}/CMakeASCCompiler.cmake.in"
               "${CMAKE_PLATFORM_INFO_DIR}/CMakeASCCompiler.cmake" @ONLY)
set(CMAKE_ASC_COMPILER_ENV_VAR "ASC")

# Fake plugins, and programs that look for one (built with SLUICE_CUDA=ON or OFF, whichever this build
# is), in a folder of their own.
set(fakes ${CMAKE_CURRENT_BINARY_DIR}/cuda_plugins)

function(fake_plugin name kind source)
  add_library(${name} ${kind} ${source})
  target_link_libraries(${name} PRIVATE sluice_warnings)
  # Hidden, as the real one is: the header must export its functions.
  set_target_properties(${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${fakes}
                        CXX_VISIBILITY_PRESET hidden)
  add_dependencies(test_kernels ${name})
endfunction()

foreach(fake good other_abi no_factory contrary)
  fake_plugin(cuda_plugin_${fake} MODULE cuda_plugin_${fake}.cc)
endforeach()
# One that needs a library which the loader does not find, as cuBLAS is where there is no toolkit.
fake_plugin(libsluice_absent SHARED cuda_plugin_no_factory.cc)
set_target_properties(libsluice_absent PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${fakes}/absent)
fake_plugin(cuda_plugin_needs_absent MODULE cuda_plugin_no_factory.cc)
target_link_options(cuda_plugin_needs_absent PRIVATE -Wl,--no-as-needed)
target_link_libraries(cuda_plugin_needs_absent PRIVATE libsluice_absent)
set_target_properties(cuda_plugin_needs_absent PROPERTIES SKIP_BUILD_RPATH ON)

# The program's own source comes before the one in the library.
foreach(choice cuda_plugin cuda_unavailable)
  add_executable(${choice}_program cuda_plugin_program.cc ${CMAKE_SOURCE_DIR}/kernels/${choice}.cc)
  target_link_libraries(${choice}_program PRIVATE sluice::kernels fmt::fmt)
  set_target_properties(${choice}_program PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${fakes}
                        ENABLE_EXPORTS ON)
  add_dependencies(test_kernels ${choice}_program)
endforeach()

# The good fake takes the CPU engine of whoever loads it.
set_target_properties(test_kernels PROPERTIES ENABLE_EXPORTS ON)
target_link_libraries(test_kernels PRIVATE ${CMAKE_DL_LIBS})
set_source_files_properties(cuda_plugin_test.cc PROPERTIES
  COMPILE_DEFINITIONS "SLUICE_FAKE_PLUGINS=\"${fakes}\"")

# The program itself, whichever this build has: no plugin lies beside it.
add_test(NAME cuda_by_name
  COMMAND sh -c "said=$(\"$1\" generate --model \"$2\" --device cuda --prompt x 2>&1)
    test $? -eq 2 && echo \"$said\" | grep '^sluice: CUDA backend unavailable: '"
          sh $<TARGET_FILE:sluice> ${CMAKE_SOURCE_DIR}/models/demo)
set_tests_properties(cuda_by_name PROPERTIES TIMEOUT 60)

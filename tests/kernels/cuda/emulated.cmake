# The whole CUDA engine on emulated GPUs (tests/support/cuda_emulation): libsluice_cuda.so, the
# program and the engine's tests in a folder of their own, where the program finds the plugin as
# everywhere.
set(emulation ${CMAKE_SOURCE_DIR}/tests/support/cuda_emulation)
set(emulated ${CMAKE_CURRENT_BINARY_DIR}/emulated)

set(emulation_sources
  ${emulation}/block.cc
  ${emulation}/cublas_lt.cc
  ${emulation}/device.cc
  ${emulation}/driver.cc
  ${emulation}/events.cc
  ${emulation}/fiber.cc
  ${emulation}/graphs.cc
  ${emulation}/launch.cc
  ${emulation}/matmul.cc
  ${emulation}/memory.cc
  ${emulation}/modules.cc
  ${emulation}/queue.cc
  ${emulation}/streams.cc)
add_library(cuda_emulated SHARED ${emulation_sources})
target_link_libraries(cuda_emulated PUBLIC sluice_warnings Threads::Threads PRIVATE Boost::context)
target_include_directories(cuda_emulated SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(cuda_emulated INTERFACE -Wno-unknown-pragmas)  # unroll
set_source_files_properties(${emulation}/matmul.cc PROPERTIES COMPILE_OPTIONS -O3)

# The sources of the plugin, unchanged; those of kernels by the C++ compiler.
set(engine ${CMAKE_SOURCE_DIR}/kernels/cuda)
set(engine_sources
  ${engine}/attention_plan.cc
  ${engine}/call_graphs.cc
  ${engine}/check.cc
  ${engine}/cuda_backend.cc
  ${engine}/cuda_ops.cc
  ${engine}/driver.cc
  ${engine}/kernel_runner.cc
  ${engine}/library_product.cc
  ${engine}/load_kernels.cc
  ${engine}/locality.cc
  ${engine}/pinned_memory.cc
  ${engine}/plugin.cc
  ${engine}/product_plan.cc
  ${engine}/products.cc
  ${engine}/stream_lane.cc
  ${engine}/stream_spans.cc)
set(engine_kernels
  ${engine}/attention.cu
  ${engine}/experts.cu
  ${engine}/prefill_attention.cu
  ${engine}/products.cu
  ${engine}/rows.cu
  ${engine}/sample.cu
  ${engine}/sparse_attention.cu)
set_source_files_properties(${engine_kernels} PROPERTIES
  LANGUAGE CXX COMPILE_OPTIONS "-include;${emulation}/launch.h" SKIP_PRECOMPILE_HEADERS ON)
add_library(cuda_engine_objects OBJECT ${engine_sources} ${engine_kernels})
target_link_libraries(cuda_engine_objects PUBLIC sluice::kernels cuda_emulated fmt::fmt)
set_target_properties(cuda_engine_objects PROPERTIES
  CXX_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
sluice_precompile(cuda_engine_objects)
add_library(sluice_cuda_emulated MODULE)
target_link_libraries(sluice_cuda_emulated PRIVATE cuda_engine_objects)
target_link_options(sluice_cuda_emulated PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined)
set_target_properties(sluice_cuda_emulated PROPERTIES
  OUTPUT_NAME sluice_cuda LIBRARY_OUTPUT_DIRECTORY ${emulated})

# The program's own source comes before the one in the library, which may be cuda_unavailable.cc.
add_executable(sluice_emulated ${CMAKE_SOURCE_DIR}/launcher/main.cc
               ${CMAKE_SOURCE_DIR}/kernels/cuda_plugin.cc)
target_link_libraries(sluice_emulated PRIVATE sluice_launcher fmt::fmt)
set_target_properties(sluice_emulated PROPERTIES
  OUTPUT_NAME sluice RUNTIME_OUTPUT_DIRECTORY ${emulated})
add_dependencies(sluice_emulated sluice_cuda_emulated)

# What measures a machine, on such a GPU.
add_executable(test_calibrate_emulated calibrate_test.cc ${CMAKE_SOURCE_DIR}/kernels/cuda_plugin.cc)
target_link_libraries(test_calibrate_emulated PRIVATE sluice_launcher fmt::fmt GTest::gtest
                      GTest::gtest_main)
set_target_properties(test_calibrate_emulated PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${emulated})
add_dependencies(test_calibrate_emulated sluice_cuda_emulated)
gtest_discover_tests(test_calibrate_emulated TEST_PREFIX emulated/ DISCOVERY_TIMEOUT 60
  TEST_LIST test_calibrate_emulated_list PROPERTIES TIMEOUT 120)
set_discovered_tests(test_calibrate_emulated_list "LABELS \"unit;cuda\"")

# The engine's tests, each also with streams as late and threads as disordered as a GPU may have them.
add_executable(test_cuda_engine_emulated engine_test.cc emulated_engine_test.cc
               sample_engine_test.cc ${SAMPLER_SOURCES}
               ${CMAKE_SOURCE_DIR}/kernels/cuda_plugin.cc
               ${CMAKE_SOURCE_DIR}/tests/support/reference_ops.cc)
target_link_libraries(test_cuda_engine_emulated PRIVATE sluice::kernels fmt::fmt GTest::gtest
                      GTest::gmock GTest::gtest_main)
set_target_properties(test_cuda_engine_emulated PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${emulated})
add_dependencies(test_cuda_engine_emulated sluice_cuda_emulated)
gtest_discover_tests(test_cuda_engine_emulated TEST_PREFIX emulated/ DISCOVERY_TIMEOUT 60
  PROPERTIES TIMEOUT 120)
set_discovered_tests(test_cuda_engine_emulated_TESTS "LABELS \"unit;cuda\"")
gtest_discover_tests(test_cuda_engine_emulated TEST_PREFIX emulated_late/ DISCOVERY_TIMEOUT 60
  TEST_LIST test_cuda_engine_late PROPERTIES TIMEOUT 120)
set_discovered_tests(test_cuda_engine_late
  "LABELS \"unit;cuda\" ENVIRONMENT \"SLUICE_EMULATED_LATE=1;SLUICE_EMULATED_SEED=1\"")
# Where streams cannot wait for words of 64 bits, lanes keep the same order.
gtest_discover_tests(test_cuda_engine_emulated TEST_PREFIX emulated_without_memory_operations/
  TEST_FILTER "CudaLanes.*:*Attention*" DISCOVERY_TIMEOUT 60
  TEST_LIST test_cuda_engine_without_memory_operations PROPERTIES TIMEOUT 120)
set_discovered_tests(test_cuda_engine_without_memory_operations
  "LABELS \"unit;cuda\" ENVIRONMENT \"SLUICE_EMULATED_LATE=1;SLUICE_EMULATED_STREAM_MEMORY_OPERATIONS=0\"")

# Parts of the engine that its interface does not show.
sluice_test(test_cuda_backend
  SOURCES backend_test.cc decoder_ops_test.cc locality_test.cc
            ${CMAKE_SOURCE_DIR}/tests/support/reference_ops.cc
  LIBRARIES cuda_engine_objects
  LABELS "unit;cuda")

# The emulation's own tests.
sluice_test(test_cuda_emulation
  SOURCES emulation_test.cc emulated_cublas_test.cc ${CMAKE_SOURCE_DIR}/kernels/cuda/check.cc
  LIBRARIES sluice::kernels cuda_emulated fmt::fmt
  LABELS "unit;cuda")

# Launches and products, without the engine around them.
sluice_test(test_cuda_products
  SOURCES rows_test.cc decoder_rows_test.cc experts_test.cc products_test.cc tensor_product_test.cc product_plan_test.cc
          ${CMAKE_SOURCE_DIR}/tests/support/reference_ops.cc
  LIBRARIES cuda_engine_objects
  LABELS "unit;cuda")

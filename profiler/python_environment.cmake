# The torch wheel: from the interpreter that TIDEMARK_PYTHON names, or from a virtual environment
# that is made once in the build folder with the pinned, hashed requirements.

set(TIDEMARK_TORCH_VERSION 2.11.0)

function(tidemark_has_torch python result)
  # pip hides the environment's packages from a build by PYTHONPATH; torch is meant to be found.
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env --unset=PYTHONPATH ${python} -c
      "import importlib.metadata as m; print(m.version('torch').split('+')[0])"
    OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# Makes an environment at `folder` with the wheels of `requirements`; does nothing when that was done
# with the same requirements before.
function(tidemark_make_environment folder requirements)
  file(SHA256 ${requirements} wanted)
  set(stamp ${folder}/requirements.sha256)
  if(EXISTS ${stamp})
    file(READ ${stamp} present)
    if(present STREQUAL wanted)
      return()
    endif()
  endif()
  find_program(TIDEMARK_BASE_PYTHON NAMES python3.11 python3 REQUIRED)
  mark_as_advanced(TIDEMARK_BASE_PYTHON)
  message(STATUS "making a Python environment in ${folder} (a few minutes, once)")
  if(NOT EXISTS ${folder}/bin/python)
    execute_process(COMMAND ${TIDEMARK_BASE_PYTHON} -m venv ${folder} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  execute_process(
    COMMAND ${folder}/bin/python -m pip install --quiet --disable-pip-version-check
      --require-hashes -r ${requirements}
    COMMAND_ERROR_IS_FATAL ANY)
  file(WRITE ${stamp} "${wanted}")
endfunction()

# Sets `result` to an interpreter that has the torch wheel.
function(tidemark_find_python result)
  if(TIDEMARK_PYTHON)
    tidemark_has_torch(${TIDEMARK_PYTHON} version)
    if(NOT version STREQUAL TIDEMARK_TORCH_VERSION)
      if(SKBUILD)
        message(FATAL_ERROR "This environment (${TIDEMARK_PYTHON}) has torch '${version}'; Tidemark "
          "needs torch ${TIDEMARK_TORCH_VERSION}: pip install torch==${TIDEMARK_TORCH_VERSION}, "
          "then pip install --no-build-isolation . where the tool hides the environment (uv)")
      endif()
      message(FATAL_ERROR "TIDEMARK_PYTHON names ${TIDEMARK_PYTHON}, which has "
        "torch '${version}'; Tidemark needs torch ${TIDEMARK_TORCH_VERSION}. Leave the option out "
        "and an environment is made in the build folder.")
    endif()
    set(${result} ${TIDEMARK_PYTHON} PARENT_SCOPE)
    return()
  endif()
  set(folder ${CMAKE_BINARY_DIR}/python)
  tidemark_make_environment(${folder} ${PROJECT_SOURCE_DIR}/profiler/requirements.txt)
  set(${result} ${folder}/bin/python PARENT_SCOPE)
endfunction()

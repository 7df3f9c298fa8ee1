# Installs the tests' Python packages where they are missing; does nothing the second time.
file(SHA256 ${REQUIREMENTS} wanted)
cmake_path(GET TEST_PYTHON PARENT_PATH folder)
set(stamp ${folder}/../test_requirements.sha256)
if(EXISTS ${stamp})
  file(READ ${stamp} present)
  if(present STREQUAL wanted)
    return()
  endif()
endif()
if(NOT EXISTS ${TEST_PYTHON})
  execute_process(COMMAND ${PYTHON} -m venv ${folder}/.. COMMAND_ERROR_IS_FATAL ANY)
endif()
execute_process(
  COMMAND ${TEST_PYTHON} -m pip install --quiet --disable-pip-version-check --require-hashes
    -r ${REQUIREMENTS}
  COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${stamp} "${wanted}")

# Installs what the build needs and the machine lacks: Debian's packages. Run before project() looks
# for anything. As root, or with a sudo that asks for no password, it installs them; otherwise it
# stops with the one line to run.
function(tidemark_install_packages)
  set(packages
    catch2 libbenchmark-dev libboost-program-options-dev libjs-chart.js libzip-dev nlohmann-json3-dev pkg-config
    zlib1g-dev)
  if(TIDEMARK_WITH_TORCH AND NOT TIDEMARK_PYTHON)
    list(APPEND packages python3-venv)
  endif()
  if(TIDEMARK_BUILD_TESTS)
    list(APPEND packages chromium-headless-shell)  # opens the report page
  endif()
  find_program(dpkg_query dpkg-query)
  mark_as_advanced(dpkg_query)
  if(NOT dpkg_query)
    return()  # not a Debian system: find_package says what is missing
  endif()
  set(missing)
  foreach(package IN LISTS packages)
    execute_process(COMMAND ${dpkg_query} -W -f \${Status} ${package}
      OUTPUT_VARIABLE status ERROR_QUIET RESULT_VARIABLE result)
    if(NOT result EQUAL 0 OR NOT status MATCHES "ok installed")
      list(APPEND missing ${package})
    endif()
  endforeach()
  if(NOT missing)
    return()
  endif()
  list(JOIN missing " " names)
  execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(privilege)
  if(NOT user EQUAL 0)
    execute_process(COMMAND sudo -n true RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "Packages are missing. Run this line and start again:\n"
        "  sudo apt-get update && sudo apt-get install -y ${names}")
    endif()
    set(privilege sudo -n)
  endif()
  message(STATUS "installing ${names}")
  execute_process(COMMAND ${privilege} apt-get update -qq)
  execute_process(
    COMMAND ${privilege} env DEBIAN_FRONTEND=noninteractive
      apt-get install -y -qq --no-install-recommends ${missing}
    RESULT_VARIABLE result OUTPUT_QUIET)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "apt-get could not install them. Run this line to see why:\n"
      "  sudo apt-get update && sudo apt-get install -y ${names}")
  endif()
endfunction()

// `tidemark phantom`: starts the user's command on the phantom and reads what its processes left.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "activation.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

namespace {

// A folder that is gone when the run is over.
class RecordFolder {
 public:
  RecordFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "tidemark_phantom.XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
      throw DeviceError("no folder can be made in " +
                        std::filesystem::temp_directory_path().string() + ": " +
                        std::strerror(errno));
    }
    path_ = pattern;
  }
  RecordFolder(const RecordFolder&) = delete;
  RecordFolder& operator=(const RecordFolder&) = delete;
  ~RecordFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

volatile sig_atomic_t running_command = 0;

void pass_on(int signal) {
  if (running_command > 0) kill(running_command, signal);
}

// While a command runs, signals are for it: the keyboard's reach it anyway, those that end a job
// are passed on, so that what it used is told all the same.
class SignalsLeftToCommand {
 public:
  SignalsLeftToCommand() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGINT, &ignore, &interrupt_);
    sigaction(SIGQUIT, &ignore, &quit_);
    struct sigaction forward {};
    forward.sa_handler = pass_on;
    forward.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &forward, &terminate_);
    sigaction(SIGHUP, &forward, &hang_up_);
  }
  SignalsLeftToCommand(const SignalsLeftToCommand&) = delete;
  SignalsLeftToCommand& operator=(const SignalsLeftToCommand&) = delete;
  ~SignalsLeftToCommand() { restore(); }
  void restore() const {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGQUIT, &quit_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
    sigaction(SIGHUP, &hang_up_, nullptr);
  }

 private:
  struct sigaction interrupt_ {};
  struct sigaction quit_ {};
  struct sigaction terminate_ {};
  struct sigaction hang_up_ {};
};

// Where the command finds its libraries, and where its processes leave their records.
struct Folders {
  std::string libraries;
  std::string records;
};

void set_environment(const PhantomRequest& request, const Folders& folders) {
  set_phantom_environment(request.profile, folders.libraries);
  setenv(phantom::records_variable, folders.records.c_str(), 1);
  if (request.gpus > 0) {
    setenv(phantom::devices_variable, std::to_string(request.gpus).c_str(), 1);
  }
  if (request.snapshot) setenv(phantom::snapshot_variable, "1", 1);
  if (request.has_backlog) setenv(phantom::backlog_variable, "1", 1);
}

// In the new process. Only a failure comes back, as the pipe's content.
[[noreturn]] void become(const PhantomRequest& request, const Folders& folders, int pipe) {
  std::string failure;
  try {
    set_environment(request, folders);
    std::vector<char*> arguments;
    for (const std::string& argument : request.command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    execvp(arguments.front(), arguments.data());
    failure = request.command.front() + " cannot be started: " + std::strerror(errno);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  // Nobody is left to tell if this fails too.
  static_cast<void>(!write(pipe, failure.data(), failure.size()));
  _exit(127);
}

std::string read_all(int file) {
  std::string text;
  char buffer[256];
  for (ssize_t size = 0; (size = read(file, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(size));
  }
  return text;
}

// The command's status, as waitpid gives it.
int run(const PhantomRequest& request, const Folders& folders) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw DeviceError("this process has no file descriptors left");
  const SignalsLeftToCommand signals;
  const pid_t child = fork();
  if (child < 0) throw DeviceError(std::string("no process can be made: ") + std::strerror(errno));
  if (child == 0) {
    signals.restore();
    become(request, folders, ends[1]);
  }
  running_command = child;
  close(ends[1]);
  const std::string failure = read_all(ends[0]);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  running_command = 0;
  if (!failure.empty()) throw UsageError(failure);
  return status;
}

PhantomPlace place(phantom::Phase phase, const std::array<char, 120>& operation) {
  return {.phase = static_cast<PhantomPhase>(phase), .operation = operation.data()};
}

PhantomDevice device_of(const phantom::DeviceRecord& record, std::int32_t index) {
  PhantomDevice device{.index = index,
                       .allocated_peak = record.allocated_peak,
                       .reserved_peak = record.reserved_peak,
                       .taken_peak = record.driver_peak,
                       .peak = place(record.peak_phase, record.peak_operator)};
  if (record.out_of_memory > 0) {
    device.out_of_memory = {.times = record.out_of_memory,
                            .requested = record.refused_bytes,
                            .allocated = record.refused_allocated,
                            .reserved = record.refused_reserved,
                            .free = record.refused_free,
                            .place = place(record.refused_phase, record.refused_operator)};
  }
  return device;
}

bool has_phase(const phantom::ProcessRecord& record, phantom::Phase phase) {
  return (record.phases.load() >> static_cast<int>(phase) & 1) != 0;
}

PhantomProcess process_of(const phantom::ProcessRecord& record) {
  PhantomProcess process{.id = record.process,
                         .command = record.command.data(),
                         .is_observed = record.is_observed != 0,
                         .ran_backward = has_phase(record, phantom::Phase::backward),
                         .has_ended = record.has_ended != 0,
                         .is_card_lost = record.is_lost != 0,
                         .refused_after_fork = record.refused_after_fork,
                         .conditions = record.conditions,
                         .numbers = record.numbers,
                         .calls = calls_of(record)};
  if (record.rank >= 0) process.rank = record.rank;
  for (std::int32_t index = 0; index < record.device_count; ++index) {
    const phantom::DeviceRecord& device = record.devices[static_cast<std::size_t>(index)];
    if (device.driver_peak > 0) process.devices.push_back(device_of(device, index));
  }
  return process;
}

// Nullopt for a file that no process of ours finished making.
std::optional<PhantomProcess> read_record(const std::filesystem::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::optional<PhantomProcess> process;
  std::error_code error;
  if (std::filesystem::file_size(path, error) == sizeof(phantom::ProcessRecord)) {
    void* memory = mmap(nullptr, sizeof(phantom::ProcessRecord), PROT_READ, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) {
      const auto& record = *static_cast<const phantom::ProcessRecord*>(memory);
      if (record.magic == phantom::ProcessRecord::magic_number) process = process_of(record);
      munmap(memory, sizeof(phantom::ProcessRecord));
    }
  }
  close(file);
  return process;
}

// memory.pickle for the first process, memory.1.pickle for the second.
std::string numbered(const std::string& path, std::size_t number) {
  if (number == 0) return path;
  const std::filesystem::path whole = path;
  return (whole.parent_path() / whole.stem()).string() + "." + std::to_string(number) +
         whole.extension().string();
}

void fetch_snapshots(const RecordFolder& folder, const std::string& path,
                     std::vector<PhantomProcess>& processes) {
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const std::string left = folder.path() + "/" + std::to_string(processes[i].id) + ".pickle";
    if (!std::filesystem::exists(left)) continue;
    const std::string file = numbered(path, i);
    std::error_code error;
    std::filesystem::copy_file(left, file, std::filesystem::copy_options::overwrite_existing,
                               error);
    if (error) throw DeviceError(file + " cannot be written: " + error.message());
    processes[i].snapshot = file;
  }
}

}  // namespace

PhantomRun run_on_phantom(const PhantomRequest& request) {
  const std::string libraries = phantom_libraries();
  const RecordFolder folder;
  const int status = run(request, {.libraries = libraries, .records = folder.path()});
  PhantomRun result;
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  result.exit_status = WIFSIGNALED(status) ? 128 + result.signal : WEXITSTATUS(status);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    std::optional<PhantomProcess> process = read_record(entry.path());
    if (!process || (process->devices.empty() && process->refused_after_fork == 0)) continue;
    result.processes.push_back(std::move(*process));
  }
  std::sort(result.processes.begin(), result.processes.end(),
            [](const PhantomProcess& one, const PhantomProcess& other) {
              return std::pair(one.rank, one.id) < std::pair(other.rank, other.id);
            });
  if (request.snapshot) fetch_snapshots(folder, *request.snapshot, result.processes);
  return result;
}

}  // namespace tidemark

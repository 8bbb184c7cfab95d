// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/systemd_manager.h"

#if LAYERFS_HAS_LIBSYSTEMD
#include <dlfcn.h>
#include <systemd/sd-bus.h>
#endif

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "fs/base/log.h"

namespace layerfs::sys {

std::string unix_address(std::string_view path) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/.\\*";
  constexpr char kDigits[] = "0123456789abcdef";
  std::string address = "unix:path=";
  for (char c : path) {
    if (kPlain.find(c) != std::string_view::npos) {
      address += c;
      continue;
    }
    auto byte = static_cast<unsigned char>(c);
    address += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return address;
}

#if LAYERFS_HAS_LIBSYSTEMD

#define LAYERFS_SD_BUS_FUNCTIONS(use)  \
  use(sd_bus_new);                     \
  use(sd_bus_set_address);             \
  use(sd_bus_set_bus_client);          \
  use(sd_bus_start);                   \
  use(sd_bus_flush_close_unref);       \
  use(sd_bus_match_signal);            \
  use(sd_bus_process);                 \
  use(sd_bus_wait);                    \
  use(sd_bus_call);                    \
  use(sd_bus_error_free);              \
  use(sd_bus_message_new_method_call); \
  use(sd_bus_message_append);          \
  use(sd_bus_message_append_array);    \
  use(sd_bus_message_open_container);  \
  use(sd_bus_message_close_container); \
  use(sd_bus_message_read);            \
  use(sd_bus_message_unref)

/// libsystemd's functions, by their own names.
struct SdBus {
#define LAYERFS_DECLARE(name) decltype(&::name) name = nullptr
  LAYERFS_SD_BUS_FUNCTIONS(LAYERFS_DECLARE);
#undef LAYERFS_DECLARE
};

/// A job of which systemd has said the end.
struct EndedJob {
  std::string path;
  std::string result;
};

namespace {

constexpr std::chrono::seconds kPatience{30};  // as runc has
constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kObject = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";

/// Stays loaded: it may have made threads' data and handlers of its own.
Result<SdBus> load_sd_bus() {
  void* library = ::dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return unsupported_error("load", "libsystemd.so.0", ::dlerror());
  SdBus bus;
  const char* missing = nullptr;
#define LAYERFS_LOAD(name)                                                 \
  bus.name = reinterpret_cast<decltype(&::name)>(::dlsym(library, #name)); \
  if (bus.name == nullptr) missing = #name
  LAYERFS_SD_BUS_FUNCTIONS(LAYERFS_LOAD);
#undef LAYERFS_LOAD
  if (missing != nullptr)
    return unsupported_error("load", "libsystemd.so.0", std::string("has no ") + missing);
  return bus;
}

}  // namespace

struct SystemdManager::Connection {
  explicit Connection(const SdBus& functions) : sd(functions) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (bus != nullptr) sd.sd_bus_flush_close_unref(bus);
  }

  SdBus sd;
  sd_bus* bus = nullptr;
  std::vector<EndedJob> ended;

  int open(const ManagerAddress& address);
  Result<std::string> call(sd_bus_message* message, const std::string& unit, std::string& name);
  Result<void> wait_for_job(const std::string& path, const std::string& unit);
  static int on_job_removed(sd_bus_message* message, void* data, sd_bus_error* error);
};

namespace {

/// A call to the manager that is being put together: the first thing that goes wrong counts.
class CallBuilder {
 public:
  CallBuilder(const SdBus& sd, sd_bus* bus, const char* method) : sd_(sd) {
    code_ = sd_.sd_bus_message_new_method_call(bus, &message_, kService, kObject, kManager, method);
  }
  CallBuilder(const CallBuilder&) = delete;
  CallBuilder& operator=(const CallBuilder&) = delete;
  ~CallBuilder() {
    if (message_ != nullptr) sd_.sd_bus_message_unref(message_);
  }

  template <class... T>
  void append(const char* types, T... values) {
    check([&] { return sd_.sd_bus_message_append(message_, types, values...); });
  }
  void open(char type, const char* contents) {
    check([&] { return sd_.sd_bus_message_open_container(message_, type, contents); });
  }
  void close() {
    check([&] { return sd_.sd_bus_message_close_container(message_); });
  }
  void append_property(const UnitProperty& property) {
    open('r', "sv");
    append("s", property.name.c_str());
    std::visit([&](const auto& value) { append_variant(value); }, property.value);
    close();
  }

  int code() const { return code_; }
  sd_bus_message* message() const { return message_; }

 private:
  template <class Step>
  void check(Step step) {
    if (code_ < 0) return;
    int code = step();
    if (code < 0) code_ = code;
  }
  void append_variant(bool value) { append("v", "b", static_cast<int>(value)); }
  void append_variant(std::int32_t value) { append("v", "i", value); }
  void append_variant(std::uint32_t value) { append("v", "u", value); }
  void append_variant(std::int64_t value) { append("v", "x", value); }
  void append_variant(std::uint64_t value) { append("v", "t", value); }
  void append_variant(const std::string& value) { append("v", "s", value.c_str()); }
  void append_variant(const std::vector<std::string>& value) {
    open('v', "as");
    open('a', "s");
    for (const auto& item : value) append("s", item.c_str());
    close();
    close();
  }
  void append_variant(const std::vector<std::uint8_t>& value) {
    open('v', "ay");
    check([&] { return sd_.sd_bus_message_append_array(message_, 'y', value.data(), value.size()); });
    close();
  }

  const SdBus& sd_;
  sd_bus_message* message_ = nullptr;
  int code_ = 0;
};

std::uint64_t microseconds_left(std::chrono::steady_clock::time_point end) {
  auto left = std::chrono::duration_cast<std::chrono::microseconds>(end - std::chrono::steady_clock::now());
  return left.count() > 0 ? static_cast<std::uint64_t>(left.count()) : 0;
}

}  // namespace

int SystemdManager::Connection::open(const ManagerAddress& address) {
  int code = sd.sd_bus_new(&bus);
  if (code >= 0) code = sd.sd_bus_set_address(bus, address.text.c_str());
  if (code >= 0) code = sd.sd_bus_set_bus_client(bus, address.is_bus ? 1 : 0);
  if (code >= 0) code = sd.sd_bus_start(bus);
  // A connection to the manager itself has no senders.
  if (code >= 0)
    code = sd.sd_bus_match_signal(bus, nullptr, address.is_bus ? kService : nullptr, kObject, kManager,
                                  "JobRemoved", on_job_removed, this);
  // On a bus the manager speaks only when it was asked to; elsewhere this says whether somebody answers.
  if (code >= 0) {
    CallBuilder subscribe(sd, bus, "Subscribe");
    code = subscribe.code();
    if (code >= 0)
      code = sd.sd_bus_call(bus, subscribe.message(), std::chrono::microseconds(kPatience).count(), nullptr,
                            nullptr);
  }
  return code;
}

/// Calls and returns the path of the answer, where it has one. `name`: of the D-Bus error.
Result<std::string> SystemdManager::Connection::call(sd_bus_message* message, const std::string& unit,
                                                     std::string& name) {
  sd_bus_error error{};
  sd_bus_message* reply = nullptr;
  int code = sd.sd_bus_call(bus, message, std::chrono::microseconds(kPatience).count(), &error, &reply);
  std::string path;
  if (code >= 0) {
    const char* text = nullptr;
    if (sd.sd_bus_message_read(reply, "o", &text) > 0) path = text;
    sd.sd_bus_message_unref(reply);
    return path;
  }
  if (error.name != nullptr) name = error.name;
  Error failed{ErrorKind::kSystem, -code, "systemd: unit '" + unit + "'",
               error.message != nullptr ? error.message : std::string()};
  sd.sd_bus_error_free(&error);
  return std::unexpected(std::move(failed));
}

int SystemdManager::Connection::on_job_removed(sd_bus_message* message, void* data, sd_bus_error* /*error*/) {
  auto* self = static_cast<Connection*>(data);
  std::uint32_t number = 0;
  const char* path = nullptr;
  const char* unit = nullptr;
  const char* result = nullptr;
  if (self->sd.sd_bus_message_read(message, "uoss", &number, &path, &unit, &result) > 0)
    self->ended.push_back({path, result});
  return 0;
}

Result<void> SystemdManager::Connection::wait_for_job(const std::string& path, const std::string& unit) {
  auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    // What came while the call's answer was waited for is dispatched here, too.
    int code = sd.sd_bus_process(bus, nullptr);
    if (code < 0) return system_error(-code, "wait for systemd's unit", unit);
    if (auto job = std::ranges::find(ended, path, &EndedJob::path); job != ended.end()) {
      if (job->result == "done") return {};
      return std::unexpected(Error{ErrorKind::kSystem, EIO, "systemd: unit '" + unit + "'",
                                   "its job ended as '" + job->result + "'"});
    }
    if (code > 0) continue;
    std::uint64_t left = microseconds_left(end);
    if (left == 0) return system_error(ETIMEDOUT, "wait for systemd's unit", unit);
    code = sd.sd_bus_wait(bus, left);
    if (code < 0 && code != -EINTR) return system_error(-code, "wait for systemd's unit", unit);
  }
}

bool has_systemd_support() { return true; }

Result<SystemdManager> SystemdManager::connect(const std::vector<ManagerAddress>& addresses) {
  LAYERFS_ASSIGN(SdBus functions, load_sd_bus());
  std::string reasons;
  for (const auto& address : addresses) {
    auto connection = std::make_unique<Connection>(functions);
    int code = connection->open(address);
    if (code >= 0) return SystemdManager(std::move(connection));
    reasons += (reasons.empty() ? "" : ", ") + address.text + ": " + errno_text(-code);
  }
  return unsupported_error("connect to", "systemd", "does it run? (" + reasons + ")");
}

Result<void> SystemdManager::start_scope(const std::string& unit, const std::vector<UnitProperty>& properties,
                                         pid_t pid) {
  Connection& to = *connection_;
  for (bool again = false;; again = true) {
    CallBuilder start(to.sd, to.bus, "StartTransientUnit");
    start.append("ss", unit.c_str(), "fail");
    start.open('a', "(sv)");
    for (const auto& property : properties) start.append_property(property);
    start.append("(sv)", "PIDs", "au", 1, static_cast<std::uint32_t>(pid));
    start.close();
    start.append("a(sa(sv))", 0);
    if (start.code() < 0) return system_error(-start.code(), "describe systemd's unit", unit);
    std::string name;
    auto job = to.call(start.message(), unit, name);
    if (job) return to.wait_for_job(*job, unit);
    if (again || name != "org.freedesktop.systemd1.UnitExists") return std::unexpected(job.error());
    // One that failed is kept by an older systemd, or by CollectMode=, until it is looked at.
    CallBuilder reset(to.sd, to.bus, "ResetFailedUnit");
    reset.append("s", unit.c_str());
    if (!to.call(reset.message(), unit, name)) return std::unexpected(job.error());
  }
}

Result<void> SystemdManager::set_properties(const std::string& unit,
                                            const std::vector<UnitProperty>& properties) {
  if (properties.empty()) return {};
  Connection& to = *connection_;
  CallBuilder set(to.sd, to.bus, "SetUnitProperties");
  set.append("sb", unit.c_str(), 1);
  set.open('a', "(sv)");
  for (const auto& property : properties) set.append_property(property);
  set.close();
  if (set.code() < 0) return system_error(-set.code(), "describe systemd's unit", unit);
  std::string name;
  LAYERFS_TRY(to.call(set.message(), unit, name));
  return {};
}

Result<void> SystemdManager::attach_process(const std::string& unit, pid_t pid) {
  Connection& to = *connection_;
  CallBuilder attach(to.sd, to.bus, "AttachProcessesToUnit");
  attach.append("ssau", unit.c_str(), "", 1, static_cast<std::uint32_t>(pid));
  if (attach.code() < 0) return system_error(-attach.code(), "describe systemd's unit", unit);
  std::string name;
  LAYERFS_TRY(to.call(attach.message(), unit, name));
  return {};
}

Result<void> SystemdManager::stop_unit(const std::string& unit) {
  Connection& to = *connection_;
  CallBuilder stop(to.sd, to.bus, "StopUnit");
  stop.append("ss", unit.c_str(), "replace");
  if (stop.code() < 0) return system_error(-stop.code(), "describe systemd's unit", unit);
  std::string name;
  auto job = to.call(stop.message(), unit, name);
  if (!job && name == "org.freedesktop.systemd1.NoSuchUnit") return {};
  if (!job) return std::unexpected(job.error());
  LAYERFS_TRY(to.wait_for_job(*job, unit));
  CallBuilder reset(to.sd, to.bus, "ResetFailedUnit");
  reset.append("s", unit.c_str());
  if (auto forgotten = to.call(reset.message(), unit, name); !forgotten)
    log_debug("{}", forgotten.error().message());  // it is gone already, as it should be
  return {};
}

#else  // a build without libsystemd

struct SystemdManager::Connection {};

namespace {

std::unexpected<Error> without_support() {
  return unsupported_error("connect to", "systemd",
                           "this build is without libsystemd (libsystemd-dev was not there)");
}

}  // namespace

bool has_systemd_support() { return false; }
Result<SystemdManager> SystemdManager::connect(const std::vector<ManagerAddress>& /*addresses*/) {
  return without_support();
}
Result<void> SystemdManager::start_scope(const std::string& /*unit*/,
                                         const std::vector<UnitProperty>& /*properties*/, pid_t /*pid*/) {
  return without_support();
}
Result<void> SystemdManager::set_properties(const std::string& /*unit*/,
                                            const std::vector<UnitProperty>& /*properties*/) {
  return without_support();
}
Result<void> SystemdManager::attach_process(const std::string& /*unit*/, pid_t /*pid*/) {
  return without_support();
}
Result<void> SystemdManager::stop_unit(const std::string& /*unit*/) { return without_support(); }

#endif

SystemdManager::SystemdManager(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
SystemdManager::SystemdManager(SystemdManager&&) noexcept = default;
SystemdManager::~SystemdManager() = default;

}  // namespace layerfs::sys

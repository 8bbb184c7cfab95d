// SPDX-License-Identifier: Apache-2.0
// union_work WORK ARGUMENT...: the loops of bench/union, the same program for every candidate. It prints the
// seconds of the work itself; starting it, and listing what is to be worked on where that is not the work, is
// not in them.
//
//   stat DIR                   readdir and fstatat of everything below DIR
//   read DIR THREADS           open, read, close every regular file below DIR (the walk is part of it)
//   open-close DIR ROUNDS      open and close every regular file below DIR; ROUNDS times
//   lookup DIR FILE            fstatat of each path in FILE (one a line, relative to DIR)
//   append DIR                 one byte at the end of every regular file below DIR
//   append-one FILE            one byte at the end of FILE
//   create DIR COUNT           empty files in DIR
//   unlink DIR COUNT           ... removed
//   write FILE MIB             MIB from the start in pieces of 128 KiB, then fsync
//   rewrite FILE MIB COUNT     COUNT writes of 4 KiB at random places of FILE's first MIB, fsync after each
//   256
//   commit FILE MIB COUNT      the same, with fdatasync after each one
//   log FILE COUNT             COUNT times 4 KiB at the end of FILE, fsync after each
//   spool DIR COUNT            COUNT files of 4 KiB: written under another name, fsync, renamed
//
// And one that prints more, for bench/wakeups:
//
//   callers DIR THREADS COUNT MICROSECONDS
//                              COUNT empty files made by each of THREADS, which computes for MICROSECONDS
//                              after each: JSON of the times of a file in microseconds, how often the callers
//                              were found on another processor than before, and how often they were switched
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "fs/base/fd.h"

namespace {

using layerfs::Fd;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Fd open_at(int dir, const std::string& name, int flags) {
  int fd = ::openat(dir, name.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) fail(name);
  return Fd(fd);
}

/// Calls `visit(path, attributes)` for everything below `path`.
template <class F>
void walk(const std::string& path, F&& visit) {
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) fail(path);
  std::vector<std::string> below;
  while (dirent* entry = ::readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat attributes{};
    if (::fstatat(::dirfd(dir), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0) fail(entry->d_name);
    std::string full = path + "/" + entry->d_name;
    visit(full, attributes);
    if (S_ISDIR(attributes.st_mode)) below.push_back(std::move(full));
  }
  ::closedir(dir);
  for (const auto& next : below) walk(next, visit);
}

std::vector<std::string> files_below(const std::string& path) {
  std::vector<std::string> files;
  walk(path, [&](const std::string& name, const struct stat& attributes) {
    if (S_ISREG(attributes.st_mode)) files.push_back(name);
  });
  return files;
}

void read_files(const std::vector<std::string>& files, std::size_t first, std::size_t step) {
  std::vector<char> buffer(128 << 10);
  for (std::size_t i = first; i < files.size(); i += step) {
    Fd file = open_at(AT_FDCWD, files[i], O_RDONLY);
    while (true) {
      ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
      if (count < 0) fail(files[i]);
      if (count == 0) break;
    }
  }
}

void read_all(const std::string& dir, std::size_t threads) {
  auto files = files_below(dir);
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < threads; ++i) others.emplace_back([&, i] { read_files(files, i, threads); });
  read_files(files, 0, threads);
  for (auto& thread : others) thread.join();
}

void append_byte(const std::string& path) {
  Fd file = open_at(AT_FDCWD, path, O_WRONLY | O_APPEND);
  if (::write(file.get(), "x", 1) != 1) fail(path);
}

void sync_file(const Fd& file) {
  if (::fsync(file.get()) != 0) fail("fsync");
}

void sync_data_of(const Fd& file) {
  if (::fdatasync(file.get()) != 0) fail("fdatasync");
}

void append_and_sync(const std::string& path, std::size_t count) {
  const std::vector<char> bytes(4096, 'a');
  Fd file = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND);
  for (std::size_t i = 0; i < count; ++i) {
    if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail(path);
    sync_file(file);
  }
}

void spool(const std::string& directory, std::size_t count) {
  const std::vector<char> bytes(4096, 's');
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("{}/spool{}", directory, i);
    const std::string fresh = name + ".new";
    Fd file = open_at(AT_FDCWD, fresh, O_WRONLY | O_CREAT | O_EXCL);
    if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail(fresh);
    sync_file(file);
    if (::rename(fresh.c_str(), name.c_str()) != 0) fail(name);
  }
}

void write_in_order(const std::string& path, std::size_t mib) {
  std::vector<char> bytes(128 << 10);
  std::mt19937_64 random(1);
  for (char& byte : bytes) byte = static_cast<char>(random());
  Fd file = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC);
  for (std::size_t i = 0; i < mib * 8; ++i)
    if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail(path);
  sync_file(file);
}

/// `flush` is called after every `together` writes.
void write_at_random(const std::string& path, std::size_t mib, std::size_t count, std::size_t together,
                     void (*flush)(const Fd&)) {
  std::vector<char> bytes(4096, 'r');
  std::mt19937_64 random(2);
  Fd file = open_at(AT_FDCWD, path, O_WRONLY);
  for (std::size_t i = 1; i <= count; ++i) {
    auto offset = static_cast<off_t>(random() % (mib * 256) * 4096);
    if (::pwrite(file.get(), bytes.data(), bytes.size(), offset) != static_cast<ssize_t>(bytes.size()))
      fail(path);
    if (i % together == 0) flush(file);
  }
  if (count % together != 0) flush(file);
}

double microseconds_between(std::chrono::steady_clock::time_point begin,
                            std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - begin).count();
}

/// What one of several callers saw.
struct Caller {
  std::vector<double> microseconds;
  long moved = 0;
  long switches = 0;
};

void make_files(const std::string& directory, std::size_t number, std::size_t count, double computing,
                Caller& caller) {
  using Clock = std::chrono::steady_clock;
  int processor = ::sched_getcpu();
  for (std::size_t i = 0; i < count; ++i) {
    const auto begin = Clock::now();
    open_at(AT_FDCWD, fmt::format("{}/caller{}-{}", directory, number, i), O_WRONLY | O_CREAT | O_EXCL);
    const auto end = Clock::now();
    caller.microseconds.push_back(microseconds_between(begin, end));
    if (const int now = ::sched_getcpu(); now != processor) {
      ++caller.moved;
      processor = now;
    }
    while (microseconds_between(end, Clock::now()) < computing) {
    }
  }
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  caller.switches = usage.ru_nvcsw + usage.ru_nivcsw;
}

void measure_callers(const std::string& directory, std::size_t threads, std::size_t count, double computing) {
  std::vector<Caller> callers(threads);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < threads; ++i)
    running.emplace_back([&, i] { make_files(directory, i, count, computing, callers[i]); });
  for (auto& thread : running) thread.join();
  const double all = microseconds_between(begin, std::chrono::steady_clock::now());
  Caller sum;
  for (const Caller& caller : callers) {
    sum.microseconds.insert(sum.microseconds.end(), caller.microseconds.begin(), caller.microseconds.end());
    sum.moved += caller.moved;
    sum.switches += caller.switches;
  }
  std::ranges::sort(sum.microseconds);
  const std::size_t files = sum.microseconds.size();
  fmt::print(
      R"({{"each": {:.2f}, "median": {:.2f}, "p99": {:.2f}, "worst": {:.2f}, "moved": {:.4f}, "switches": {:.2f}}})"
      "\n",
      all / static_cast<double>(files), sum.microseconds[files / 2], sum.microseconds[files * 99 / 100],
      sum.microseconds.back(), static_cast<double>(sum.moved) / static_cast<double>(files),
      static_cast<double>(sum.switches) / static_cast<double>(files));
}

std::string numbered(std::size_t number) { return fmt::format("file{:05}", number); }

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// The seconds of the work, or a negative number where it is not known.
double run(const std::string& work, const std::vector<std::string>& arguments) {
  auto text = [&](std::size_t i) { return arguments.at(i); };
  auto number = [&](std::size_t i) { return static_cast<std::size_t>(std::stoul(arguments.at(i))); };
  if (work == "open-close" || work == "append") {
    auto files = files_below(text(0));
    Clock clock;
    if (work == "append") {
      for (const auto& file : files) append_byte(file);
    } else {
      for (std::size_t round = number(1); round > 0; --round)
        for (const auto& file : files) open_at(AT_FDCWD, file, O_RDONLY);
    }
    return clock.seconds();
  }
  if (work == "lookup") {
    Fd dir = open_at(AT_FDCWD, text(0), O_RDONLY | O_DIRECTORY);
    std::ifstream list(text(1));
    std::vector<std::string> paths;
    for (std::string line; std::getline(list, line);) paths.push_back(line);
    Clock clock;
    struct stat attributes{};
    for (const auto& path : paths)
      if (::fstatat(dir.get(), path.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) != 0) fail(path);
    return clock.seconds();
  }
  if (work == "create" || work == "unlink") {
    Fd dir = open_at(AT_FDCWD, text(0), O_RDONLY | O_DIRECTORY);
    Clock clock;
    for (std::size_t i = 0; i < number(1); ++i) {
      if (work == "create")
        open_at(dir.get(), numbered(i), O_WRONLY | O_CREAT | O_EXCL);
      else if (::unlinkat(dir.get(), numbered(i).c_str(), 0) != 0)
        fail(numbered(i));
    }
    return clock.seconds();
  }
  Clock clock;
  if (work == "stat")
    walk(text(0), [](const std::string&, const struct stat&) {});
  else if (work == "read")
    read_all(text(0), number(1));
  else if (work == "append-one")
    append_byte(text(0));
  else if (work == "write")
    write_in_order(text(0), number(1));
  else if (work == "rewrite")
    write_at_random(text(0), number(1), number(2), 256, sync_file);
  else if (work == "commit")
    write_at_random(text(0), number(1), number(2), 1, sync_data_of);
  else if (work == "log")
    append_and_sync(text(0), number(1));
  else if (work == "spool")
    spool(text(0), number(1));
  else
    return -1;
  return clock.seconds();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() == 5 && words[0] == "callers") {
      measure_callers(words[1], std::stoul(words[2]), std::stoul(words[3]), std::stod(words[4]));
      return 0;
    }
    double seconds = words.empty() ? -1 : run(words[0], {words.begin() + 1, words.end()});
    if (seconds < 0) {
      fmt::print(stderr, "usage: union_work WORK ARGUMENT... (the works are in the head of union_work.cc)\n");
      return 2;
    }
    fmt::print("{:.6f}\n", seconds);
    return 0;
  } catch (const std::exception& exception) {
    fmt::print(stderr, "union_work: {}\n", exception.what());
    return 1;
  }
}

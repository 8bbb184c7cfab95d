// SPDX-License-Identifier: Apache-2.0
// fuse_floor [--threads N] MOUNTPOINT: a file system that keeps everything in memory, in the foreground until
// it is unmounted. It is the floor of bench/union's writing rows: the messages, the mount and the features of
// the connection are layerfs's (choose_features(), mount_device(), ENOSYS to OPEN, OPENDIR and CREATE), and
// what an operation does behind them is next to nothing. What layerfs takes beyond it is layerfs's own.
//
// (1) A node id is the address of its Inode; the root's is FUSE_ROOT_ID.
// (2) One mutex guards everything; it is never held over a system call.
// (3) An inode lives while it has a link or the kernel holds a lookup of it. It knows no xattrs, no
//     permissions (the kernel checks modes) and nothing that outlives it.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/base/sys_file.h"
#include "fs/fuse/capabilities.h"
#include "fs/fuse/device.h"
#include "fs/fuse/libfuse.h"
#include "fs/fuse/worker.h"
#include "fs/fuse/worker_pool.h"

namespace {

constexpr double kForever = 10.0 * 365 * 24 * 3600;

struct Inode {
  struct stat attributes{};
  std::string data;  // a file's bytes, a link's target
  std::uint64_t lookups = 0;
  Inode* parent = nullptr;  // of a directory
  // A directory's entries, in the order in which they came: the key is the cookie.
  std::map<off_t, std::pair<std::string, Inode*>> entries;
  std::unordered_map<std::string, off_t> names;
  off_t next_cookie = 3;  // after "." and ".."
};

std::mutex tree_mutex;
Inode root;                     // guarded by tree_mutex
std::uint64_t next_number = 1;  // guarded by tree_mutex
constexpr unsigned kMessage = layerfs::fuse::kMaxTransfer + 4096;

timespec now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &time);
  return time;
}

Inode& inode_of(fuse_ino_t id) { return id == FUSE_ROOT_ID ? root : *reinterpret_cast<Inode*>(id); }
fuse_ino_t id_of(Inode& inode) {
  return &inode == &root ? FUSE_ROOT_ID : reinterpret_cast<fuse_ino_t>(&inode);
}

Inode* find_child(Inode& dir, const char* name) {
  auto found = dir.names.find(name);
  return found == dir.names.end() ? nullptr : dir.entries.at(found->second).second;
}

void touch(Inode& inode) { inode.attributes.st_mtim = inode.attributes.st_ctim = now(); }

void add_entry(Inode& dir, std::string name, Inode& inode) {
  off_t cookie = dir.next_cookie++;
  dir.names.emplace(name, cookie);
  dir.entries.emplace(cookie, std::pair(std::move(name), &inode));
  if (S_ISDIR(inode.attributes.st_mode)) {
    inode.parent = &dir;
    ++dir.attributes.st_nlink;
  }
  touch(dir);
}

void remove_entry(Inode& dir, const char* name) {
  auto found = dir.names.find(name);
  if (S_ISDIR(dir.entries.at(found->second).second->attributes.st_mode)) --dir.attributes.st_nlink;
  dir.entries.erase(found->second);
  dir.names.erase(found);
  touch(dir);
}

void drop_if_unused(Inode& inode) {
  if (inode.attributes.st_nlink == 0 && inode.lookups == 0 && &inode != &root) delete &inode;
}

void drop_link(Inode& inode) {
  inode.attributes.st_nlink = S_ISDIR(inode.attributes.st_mode) ? 0 : inode.attributes.st_nlink - 1;
  inode.attributes.st_ctim = now();
  drop_if_unused(inode);
}

fuse_entry_param entry_of(Inode& inode) {
  fuse_entry_param entry{};
  entry.ino = id_of(inode);
  entry.attr = inode.attributes;
  entry.attr_timeout = entry.entry_timeout = kForever;
  return entry;
}

void set_size(Inode& inode, std::size_t size) {
  inode.data.resize(size);
  inode.attributes.st_size = static_cast<off_t>(size);
  inode.attributes.st_blocks = static_cast<blkcnt_t>((size + 511) / 512);
}

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry{};
  entry.entry_timeout = kForever;
  {
    std::lock_guard hold(tree_mutex);
    if (Inode* inode = find_child(inode_of(parent), name)) {
      entry = entry_of(*inode);
      ++inode->lookups;
    }
  }
  fuse_reply_entry(req, &entry);
}

void forget_one(fuse_ino_t id, std::uint64_t count) {
  Inode& inode = inode_of(id);
  inode.lookups -= std::min(inode.lookups, count);
  drop_if_unused(inode);
}

void forget(fuse_req_t req, fuse_ino_t id, std::uint64_t count) {
  {
    std::lock_guard hold(tree_mutex);
    forget_one(id, count);
  }
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  {
    std::lock_guard hold(tree_mutex);
    for (std::size_t i = 0; i < count; ++i) forget_one(forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(req);
}

void getattr(fuse_req_t req, fuse_ino_t id, fuse_file_info*) {
  struct stat attributes{};
  {
    std::lock_guard hold(tree_mutex);
    attributes = inode_of(id).attributes;
  }
  fuse_reply_attr(req, &attributes, kForever);
}

void setattr(fuse_req_t req, fuse_ino_t id, struct stat* wanted, int valid, fuse_file_info*) {
  struct stat attributes{};
  {
    std::lock_guard hold(tree_mutex);
    Inode& inode = inode_of(id);
    struct stat& own = inode.attributes;
    if ((valid & FUSE_SET_ATTR_MODE) != 0) own.st_mode = (own.st_mode & S_IFMT) | (wanted->st_mode & 07777);
    if ((valid & FUSE_SET_ATTR_UID) != 0) own.st_uid = wanted->st_uid;
    if ((valid & FUSE_SET_ATTR_GID) != 0) own.st_gid = wanted->st_gid;
    if ((valid & FUSE_SET_ATTR_SIZE) != 0) {
      set_size(inode, static_cast<std::size_t>(wanted->st_size));
      own.st_mtim = now();
    }
    if ((valid & FUSE_SET_ATTR_ATIME) != 0) own.st_atim = wanted->st_atim;
    if ((valid & FUSE_SET_ATTR_MTIME) != 0) own.st_mtim = wanted->st_mtim;
    if ((valid & FUSE_SET_ATTR_ATIME_NOW) != 0) own.st_atim = now();
    if ((valid & FUSE_SET_ATTR_MTIME_NOW) != 0) own.st_mtim = now();
    own.st_ctim = now();
    attributes = own;
  }
  fuse_reply_attr(req, &attributes, kForever);
}

void make(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev, const char* target) {
  auto inode = std::make_unique<Inode>();
  struct stat& own = inode->attributes;
  const fuse_ctx* context = fuse_req_ctx(req);
  own.st_mode = S_ISLNK(mode) ? mode : mode & ~context->umask;
  own.st_uid = context->uid;
  own.st_gid = context->gid;
  own.st_rdev = rdev;
  own.st_nlink = S_ISDIR(mode) ? 2 : 1;
  own.st_blksize = 4096;
  own.st_atim = own.st_mtim = own.st_ctim = now();
  if (target != nullptr) {
    inode->data = target;
    own.st_size = static_cast<off_t>(inode->data.size());
  }
  inode->lookups = 1;
  fuse_entry_param entry{};
  {
    std::lock_guard hold(tree_mutex);
    Inode& dir = inode_of(parent);
    if (find_child(dir, name) == nullptr) {
      own.st_ino = ++next_number;
      entry = entry_of(*inode);
      add_entry(dir, name, *inode.release());
    }
  }
  if (entry.ino == 0)
    fuse_reply_err(req, EEXIST);
  else
    fuse_reply_entry(req, &entry);
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  make(req, parent, name, (mode & S_IFMT) == 0 ? mode | S_IFREG : mode, rdev, nullptr);
}
void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make(req, parent, name, (mode & 07777) | S_IFDIR, 0, nullptr);
}
void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  make(req, parent, name, S_IFLNK | 0777, 0, target);
}

void readlink(fuse_req_t req, fuse_ino_t id) {
  std::string target;
  {
    std::lock_guard hold(tree_mutex);
    target = inode_of(id).data;
  }
  fuse_reply_readlink(req, target.c_str());
}

void link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry{};
  {
    std::lock_guard hold(tree_mutex);
    Inode& inode = inode_of(id);
    ++inode.attributes.st_nlink;
    inode.attributes.st_ctim = now();
    ++inode.lookups;
    add_entry(inode_of(parent), name, inode);
    entry = entry_of(inode);
  }
  fuse_reply_entry(req, &entry);
}

/// unlink and rmdir: the kernel has looked the name up and checked its type.
void remove(fuse_req_t req, fuse_ino_t parent, const char* name) {
  int code = 0;
  {
    std::lock_guard hold(tree_mutex);
    Inode& dir = inode_of(parent);
    Inode* inode = find_child(dir, name);
    if (inode == nullptr) {
      code = ENOENT;
    } else if (!inode->entries.empty()) {
      code = ENOTEMPTY;
    } else {
      remove_entry(dir, name);
      drop_link(*inode);
    }
  }
  fuse_reply_err(req, code);
}

void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  if (flags != 0) return static_cast<void>(fuse_reply_err(req, EINVAL));
  int code = 0;
  {
    std::lock_guard hold(tree_mutex);
    Inode& from = inode_of(parent);
    Inode& to = inode_of(new_parent);
    Inode* inode = find_child(from, name);
    Inode* replaced = find_child(to, new_name);
    if (inode == nullptr) {
      code = ENOENT;
    } else if (replaced != nullptr && !replaced->entries.empty()) {
      code = ENOTEMPTY;
    } else if (inode != replaced) {
      if (replaced != nullptr) {
        remove_entry(to, new_name);
        drop_link(*replaced);
      }
      remove_entry(from, name);
      add_entry(to, new_name, *inode);
      inode->attributes.st_ctim = now();
    }
  }
  fuse_reply_err(req, code);
}

void read(fuse_req_t req, fuse_ino_t id, std::size_t size, off_t offset, fuse_file_info*) {
  std::string bytes;
  {
    std::lock_guard hold(tree_mutex);
    const std::string& data = inode_of(id).data;
    auto begin = static_cast<std::size_t>(offset);
    if (begin < data.size()) bytes = data.substr(begin, size);
  }
  fuse_reply_buf(req, bytes.data(), bytes.size());
}

void write(fuse_req_t req, fuse_ino_t id, const char* bytes, std::size_t size, off_t offset,
           fuse_file_info*) {
  {
    std::lock_guard hold(tree_mutex);
    Inode& inode = inode_of(id);
    auto begin = static_cast<std::size_t>(offset);
    if (begin + size > inode.data.size()) set_size(inode, begin + size);
    std::memcpy(inode.data.data() + begin, bytes, size);
    touch(inode);
  }
  fuse_reply_write(req, size);
}

enum class Listing : unsigned char { kPlain, kPlus };

void list(fuse_req_t req, fuse_ino_t id, std::size_t size, off_t after, Listing listing) {
  std::string buffer(size, '\0');
  std::size_t used = 0;
  auto add = [&](const char* name, Inode& inode, off_t cookie) {
    fuse_entry_param entry = entry_of(inode);
    if (cookie < 3) entry.ino = 0;  // "." and "..", which the kernel has
    std::size_t needed =
        listing == Listing::kPlus
            ? fuse_add_direntry_plus(req, buffer.data() + used, size - used, name, &entry, cookie)
            : fuse_add_direntry(req, buffer.data() + used, size - used, name, &inode.attributes, cookie);
    if (needed > size - used) return false;
    used += needed;
    if (listing == Listing::kPlus && cookie >= 3) ++inode.lookups;
    return true;
  };
  {
    std::lock_guard hold(tree_mutex);
    Inode& dir = inode_of(id);
    bool room = true;
    if (after < 1) room = add(".", dir, 1);
    if (room && after < 2) room = add("..", dir.parent != nullptr ? *dir.parent : dir, 2);
    for (auto at = dir.entries.upper_bound(after); room && at != dir.entries.end(); ++at)
      room = add(at->second.first.c_str(), *at->second.second, at->first);
  }
  fuse_reply_buf(req, buffer.data(), used);
}

void readdir(fuse_req_t req, fuse_ino_t id, std::size_t size, off_t after, fuse_file_info*) {
  list(req, id, size, after, Listing::kPlain);
}
void readdirplus(fuse_req_t req, fuse_ino_t id, std::size_t size, off_t after, fuse_file_info*) {
  list(req, id, size, after, Listing::kPlus);
}

void getxattr(fuse_req_t req, fuse_ino_t, const char*, std::size_t) { fuse_reply_err(req, ENODATA); }
void listxattr(fuse_req_t req, fuse_ino_t, std::size_t size) {
  if (size == 0)
    fuse_reply_xattr(req, 0);
  else
    fuse_reply_buf(req, nullptr, 0);
}
void fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) { fuse_reply_err(req, 0); }
void open(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }
void create(fuse_req_t req, fuse_ino_t, const char*, mode_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }
void init(void*, fuse_conn_info* connection) { layerfs::fuse::choose_features(*connection); }

fuse_lowlevel_ops make_floor_operations() {
  fuse_lowlevel_ops operations{};
  operations.init = init;
  operations.lookup = lookup;
  operations.forget = forget;
  operations.forget_multi = forget_multi;
  operations.getattr = getattr;
  operations.setattr = setattr;
  operations.readlink = readlink;
  operations.mknod = mknod;
  operations.mkdir = mkdir;
  operations.symlink = symlink;
  operations.unlink = remove;
  operations.rmdir = remove;
  operations.rename = rename;
  operations.link = link;
  operations.create = create;
  operations.open = open;
  operations.opendir = open;
  operations.read = read;
  operations.write = write;
  operations.fsync = fsync;
  operations.fsyncdir = fsync;
  operations.readdir = readdir;
  operations.readdirplus = readdirplus;
  operations.getxattr = getxattr;
  operations.listxattr = listxattr;
  return operations;
}

/// As Session: a pool of workers, each of which reads and answers whole requests.
class Server {
 public:
  Server(fuse_session* session, unsigned threads)
      : session_(session), pool_(threads, SIGUSR1, [this](WorkerPool::Kind kind) { return start(kind); }) {
    struct sigaction wake{};
    wake.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &wake, nullptr);
    if (auto own = layerfs::open_file("/proc", O_PATH | O_DIRECTORY); own) processes_ = std::move(*own);
  }

  /// Until the file system is unmounted.
  void run() {
    if (auto started = pool_.start(); started) pool_.watch(fuse_session_fd(session_));
    pool_.stop();
    for (;;) {
      std::thread thread;
      {
        std::lock_guard hold(mutex_);
        if (threads_.empty()) return;
        thread = std::move(threads_.back());
        threads_.pop_back();
      }
      thread.join();
    }
  }

 private:
  using WorkerPool = layerfs::fuse::WorkerPool;

  layerfs::Result<void> start(WorkerPool::Kind kind) {
    std::lock_guard hold(mutex_);
    threads_.emplace_back([this, kind] { work(kind); });
    return {};
  }

  void work(WorkerPool::Kind kind) {
    WorkerPool::Seat seat(pool_, kind);
    layerfs::fuse::Worker worker(kMessage, processes_.get());
    auto memory = worker.message_buffer();
    while (seat.wait_for_turn()) {
      ssize_t count = ::read(fuse_session_fd(session_), memory.data(), memory.size());
      if (count <= 0) {
        seat.took_nothing();
        if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
        return;
      }
      seat.took_request();
      auto bytes = memory.first(static_cast<std::size_t>(count));
      worker.caller_cpu.note(layerfs::fuse::read_details(bytes, false).caller);
      fuse_buf message{};
      message.mem = bytes.data();
      message.size = bytes.size();
      fuse_session_process_buf(session_, &message);
      seat.answered();
    }
  }

  fuse_session* const session_;
  layerfs::Fd processes_;
  std::mutex mutex_;
  std::vector<std::thread> threads_;  // guarded by mutex_
  WorkerPool pool_;
};

int run(const std::string& mountpoint, unsigned threads) {
  root.attributes.st_ino = 1;
  root.attributes.st_mode = S_IFDIR | 0755;
  root.attributes.st_nlink = 2;
  root.attributes.st_blksize = 4096;
  touch(root);
  std::string name = "fuse_floor";
  char* argv[] = {name.data(), nullptr};
  fuse_args arguments{.argc = 1, .argv = argv, .allocated = 0};
  fuse_lowlevel_ops operations = make_floor_operations();
  fuse_session* session = fuse_session_new(&arguments, &operations, sizeof operations, nullptr);
  if (session == nullptr) return 1;
  layerfs::fuse::FuseOptions options;
  options.source = name;
  options.allow_other = ::geteuid() == 0;
  auto device = layerfs::fuse::mount_device(mountpoint, options);
  if (!device) {
    fmt::print(stderr, "fuse_floor: {}\n", device.error().message());
    return 1;
  }
  if (fuse_session_mount(session, fmt::format("/dev/fd/{}", device->get()).c_str()) != 0) return 1;
  device->release();  // the session closes it
  Server(session, threads).run();
  fuse_session_destroy(session);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  unsigned threads = std::clamp(std::thread::hardware_concurrency() + 2, 3U, 10U);  // as layerfs
  if (words.size() == 3 && words[0] == "--threads") {
    threads = static_cast<unsigned>(std::max(1, std::atoi(words[1].c_str())));
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.size() != 1) {
    fmt::print(stderr, "usage: fuse_floor [--threads N] MOUNTPOINT\n");
    return 2;
  }
  return run(words[0], threads);
}
